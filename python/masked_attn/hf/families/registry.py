"""Every family that ``patch`` knows."""

from __future__ import annotations

from torch import nn

from .decoder import DECODERS
from .encoder import ENCODERS
from .family import ModelFamily
from .gpt2 import GPT2

__all__ = ["FAMILIES", "family_of"]

FAMILIES: tuple[ModelFamily, ...] = (GPT2, *DECODERS, *ENCODERS)


def family_of(module: nn.Module) -> ModelFamily | None:
    """The family whose backbone ``module`` is, if any."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("transformers.models."):
            for family in FAMILIES:
                if family.backbone == kind.__name__ and family.module_name == kind.__module__:
                    return family
    return None
