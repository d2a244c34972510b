"""The mask function of ``attn_implementation="masked_attn"``: what every layer is handed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    eager_mask,
    sdpa_mask,
)

from ..call.visibility import on_host
from .mask_use import MaskUse, mask_use

__all__ = ["make_mask"]


def make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """The mask that transformers hands to every layer, left unexpanded where that says enough.

    Returns:
        None (no padding: plain causal or full attention), bool ``[batch, seen + queries]`` (causal
        besides), or bool ``[batch, 1, queries, keys]`` (says all that is visible).
    """
    config = kwargs.get("config")
    use = MaskUse.HANDED_ON if config is None else mask_use(type(config))
    if use is MaskUse.MUST_SAY:
        allow_is_bidirectional_skip = False
    arguments = {
        "batch_size": batch_size,
        "q_length": q_length,
        "kv_length": kv_length,
        "q_offset": q_offset,
        "kv_offset": kv_offset,
        "mask_function": mask_function,
        "attention_mask": attention_mask,
        "allow_is_bidirectional_skip": allow_is_bidirectional_skip,
        **kwargs,
    }
    if use in (MaskUse.READ, MaskUse.NOT_ON_INTERFACE):
        if use is MaskUse.NOT_ON_INTERFACE and not torch.compiler.is_compiling():
            _tell_stock_attention(type(config))
        stock: Tensor | None = eager_mask(**arguments)
        return stock
    # Who forbids the skip wants the whole mask: to join it to another, or of the size of a cache so
    # that a compiled graph has one shape for every step.
    seen = _host_int(q_offset) if allow_is_causal_skip else None
    if mask_function is causal_mask_function and kv_offset == 0 and seen is not None:
        shape = (batch_size, seen + q_length)
        if attention_mask is None:
            whole = seen + q_length == kv_length and q_length in (1, kv_length)
            if whole and use is MaskUse.HANDED_ON:
                return None
            return torch.ones(shape, dtype=torch.bool, device=kwargs.get("device"))
        if attention_mask.shape == shape:
            return attention_mask
    plain = mask_function is bidirectional_mask_function and kv_offset == 0
    if plain and attention_mask is not None and attention_mask.shape == (batch_size, kv_length):
        return attention_mask[:, None, None, :].expand(-1, -1, q_length, -1)
    skip = allow_is_causal_skip and q_length == kv_length
    mask: Tensor | None = sdpa_mask(allow_is_causal_skip=skip, **arguments)
    return mask


_told: set[type] = set()


def _tell_stock_attention(config_class: type) -> None:
    if config_class in _told:
        return
    _told.add(config_class)
    model = config_class.__name__.removesuffix("Config")
    warnings.warn(
        f"masked_attn: the layers of {model} do not ask transformers' attention interface, so this "
        "model runs its own attention with its own masks: the results are stock's, and no faster",
        stacklevel=2,
    )


def _host_int(length: int | Tensor) -> int | None:
    """The length when the host knows it without waiting for a device."""
    if not isinstance(length, Tensor):
        return length
    return int(length) if on_host(length) else None
