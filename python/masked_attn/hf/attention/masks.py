"""The mask function of ``attn_implementation="masked_attn"``: what every layer is handed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function, eager_mask, sdpa_mask

from ..call.visibility import on_host
from .mask_functions import Pattern, pattern_of
from .mask_use import MaskUse, mask_use
from .window_mask import WindowMask

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
        None (no padding: plain causal or full attention), bool ``[batch, keys]`` (causal besides),
        or bool ``[batch, 1, queries, keys]`` (says all that is visible): where that is padding
        alone, a view of the key mask, and where it is a window besides, a ``WindowMask``.
    """
    may_skip = allow_is_causal_skip, allow_is_bidirectional_skip
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
    asked = _Asked(
        batch=batch_size,
        queries=q_length,
        keys=kv_length,
        seen=_host_int(q_offset),
        key_offset=kv_offset,
        mask=attention_mask,
        device=kwargs.get("device"),
        may_be_none=use is MaskUse.HANDED_ON,
    )
    pattern = None if kwargs.get("use_vmap") else pattern_of(mask_function)
    if pattern is not None:
        causal_skip, both_ways_skip = may_skip
        may_be_short = causal_skip if pattern.causal else both_ways_skip
        told, short = _unexpanded(pattern, asked, may_be_short)
        if told:
            return short
    skip = allow_is_causal_skip and q_length == kv_length
    mask: Tensor | None = sdpa_mask(allow_is_causal_skip=skip, **arguments)
    return mask


@dataclass(frozen=True)
class _Asked:
    """What a mask is made for.

    Attributes:
        batch: rows.
        queries: queries of a row.
        keys: keys of a row.
        seen: tokens before the first query; None where only a device knows.
        key_offset: tokens before the first key.
        mask: bool ``[batch, tokens]``; None where every token is real.
        device: of the mask.
        may_be_none: whether no mask can stand for a plain one.
    """

    batch: int
    queries: int
    keys: int
    seen: int | None
    key_offset: int
    mask: Tensor | None
    device: torch.device | None
    may_be_none: bool

    def ones(self, keys: int) -> Tensor:
        return torch.ones(self.batch, keys, dtype=torch.bool, device=self.device)

    def without_offset(self) -> _Asked | None:
        """The same, counted from the first key on, where the last query is the last key."""
        if self.seen is None or self.seen + self.queries != self.key_offset + self.keys:
            return None
        mask = self.mask
        if mask is not None:
            if mask.shape != (self.batch, self.key_offset + self.keys):
                return None
            mask = mask[:, self.key_offset :]
        return replace(self, seen=self.keys - self.queries, key_offset=0, mask=mask)


def _unexpanded(pattern: Pattern, asked: _Asked, may_be_short: bool) -> tuple[bool, Tensor | None]:
    """Whether the mask can be said without writing it out, and that mask."""
    if pattern.window is not None:
        cut = asked.without_offset() if may_be_short else None
        if cut is None:
            return False, None
        asked = cut
        if pattern.window < asked.keys:
            key_mask = asked.ones(asked.keys) if asked.mask is None else asked.mask
            return True, WindowMask(key_mask, asked.queries, pattern.window, pattern.causal)
    if asked.key_offset != 0:
        return False, None
    mask, keys = asked.mask, asked.keys
    if not pattern.causal:
        if mask is None or mask.shape != (asked.batch, keys):
            return False, None
        return True, mask[:, None, None, :].expand(-1, -1, asked.queries, -1)
    if asked.seen is None or not may_be_short:
        return False, None
    filled = asked.seen + asked.queries
    if mask is None:
        whole = filled == keys and asked.queries in (1, keys)
        return True, None if whole and asked.may_be_none else asked.ones(filled)
    return mask.shape == (asked.batch, filled), mask


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
