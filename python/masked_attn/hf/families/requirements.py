"""What ``patch`` takes for granted of transformers; looked for when ``patch`` runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from transformers import GenerationMixin

from ..call.cache_argument import NAMES, THEIRS
from ..versions import changed, require_parameters
from .family import ModelFamily
from .gpt2 import GPT2

__all__ = ["PREPARE", "require_attention", "require_family", "require_generation"]

PREPARE = "_prepare_cache_for_generation"

_MODEL = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")
_CROSS = ("encoder_hidden_states", "encoder_attention_mask")
_LAYER = ("hidden_states", "attention_mask")
_PREPARED = ("generation_config", "model_kwargs", "generation_mode", "max_cache_length")


def require_family(family: ModelFamily = GPT2) -> None:
    """Refuse a transformers whose models are called otherwise than ``patch`` knows.

    Raises:
        RuntimeError: says what was looked for, which versions are tested, and what to install.
    """
    try:
        kinds = (family.backbone_class, family.layer_class, family.attention_type)
        family.eager_attention  # noqa: B018
    except (AttributeError, ImportError) as error:
        raise changed(f"{family.name} is not where it was ({error})") from error
    cross = _CROSS if family.cross_attention else ()
    wanted = ((*_MODEL, *cross), (*_LAYER, *cross[:1]), (*_LAYER, *cross[:1]))
    for kind, names in zip(kinds, wanted, strict=True):
        if kind.forward.__module__ != kind.__module__:
            continue  # others have put theirs there, which is looked at when a model is patched
        what = f"{kind.__name__}.forward"
        require_parameters(kind.forward, names, what)
        if family.causal:
            whole = kind is family.backbone_class
            _require_cache(kind.forward, what, whole, None if whole else family.cache)
    if family.causal:
        require_generation()


def require_generation() -> None:
    """Refuse a ``generate`` that prepares its cache otherwise than is known here."""
    if not hasattr(GenerationMixin, PREPARE):
        raise changed(f"there is no GenerationMixin.{PREPARE}")
    require_parameters(getattr(GenerationMixin, PREPARE), _PREPARED, PREPARE)
    prepare_inputs = GenerationMixin.prepare_inputs_for_generation
    what = "GenerationMixin.prepare_inputs_for_generation"
    _require_cache(prepare_inputs, what, whole=False)


def require_attention(attention: Any, where: str) -> None:
    """Refuse an attention module that does not say by its config which attention runs.

    Raises:
        RuntimeError: as ``require_family``.
    """
    if not hasattr(getattr(attention, "config", None), "_attn_implementation"):
        raise changed(f"{where} has no attribute config")


def _require_cache(
    function: Callable[..., Any], what: str, whole: bool, name: str | None = None
) -> None:
    """One name everywhere, for what one part is given it hands to the next; or ``name``."""
    if (name or THEIRS) in inspect.signature(function).parameters:
        return
    wanted = " or ".join(NAMES) if whole else name or THEIRS
    raise changed(f"{what} has no parameter {wanted}")
