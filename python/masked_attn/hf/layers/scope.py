"""Which modules around a backbone belong to it, so that their layers may be replaced."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

__all__ = ["modules_around"]


def modules_around(model: nn.Module, backbone: nn.Module) -> list[nn.Module]:
    """All modules in ``model``, but for those of other models that stand beside the backbone.

    Heads, poolers and what others put around a model belong to it; the encoder beside a decoder, or
    a tower for images, does not.

    Args:
        model: the backbone or any module around it.
        backbone: the model whose layers are meant.
    """
    inside = set(backbone.modules())
    beside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module not in inside:
            parts = set(module.modules())
            if backbone not in parts:
                beside |= parts
    return [module for module in model.modules() if module in inside or module not in beside]
