"""What ``patch`` takes for granted of the GPT-2 in transformers; looked for when ``patch`` runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from transformers import GenerationMixin
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block, GPT2Model

from ..call.cache_argument import NAMES, THEIRS
from ..versions import changed, require_parameters

__all__ = ["PREPARE", "require_attention", "require_gpt2"]

PREPARE = "_prepare_cache_for_generation"

_MODEL = (
    *("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"),
    *("encoder_hidden_states", "encoder_attention_mask", "use_cache"),
)
_LAYER = ("hidden_states", "attention_mask", "encoder_hidden_states")
_PREPARED = ("generation_config", "model_kwargs", "generation_mode", "max_cache_length")
_ATTENTION = (
    *("attn_dropout", "c_attn", "c_proj", "head_dim", "layer_idx", "reorder_and_upcast_attn"),
    *("resid_dropout", "scaling", "split_size"),
)


def require_gpt2() -> None:
    """Refuse a transformers whose GPT-2 is called otherwise than ``patch`` knows.

    Raises:
        RuntimeError: says what was looked for, which versions are tested, and what to install.
    """
    for kind, names in ((GPT2Model, _MODEL), (GPT2Block, _LAYER), (GPT2Attention, _LAYER)):
        if kind.forward.__module__ != kind.__module__:
            continue  # others have put theirs there, which is looked at when a model is patched
        what = f"{kind.__name__}.forward"
        require_parameters(kind.forward, names, what)
        _require_cache(kind.forward, what)
    if not hasattr(GenerationMixin, PREPARE):
        raise changed(f"there is no GenerationMixin.{PREPARE}")
    require_parameters(getattr(GenerationMixin, PREPARE), _PREPARED, PREPARE)
    prepare_inputs = GenerationMixin.prepare_inputs_for_generation
    _require_cache(prepare_inputs, "GenerationMixin.prepare_inputs_for_generation")


def require_attention(attention: Any, where: str) -> None:
    """Refuse an attention module that has no longer what ours works with.

    Raises:
        RuntimeError: as ``require_gpt2``.
    """
    missing = [name for name in _ATTENTION if not hasattr(attention, name)]
    if missing:
        raise changed(f"{where} has no attribute {', '.join(missing)}")


def _require_cache(function: Callable[..., Any], what: str) -> None:
    """One name everywhere, for what one part is given it hands to the next."""
    if THEIRS in inspect.signature(function).parameters:
        return
    wanted = " or ".join(NAMES) if function is GPT2Model.forward else THEIRS
    raise changed(f"{what} has no parameter {wanted}")
