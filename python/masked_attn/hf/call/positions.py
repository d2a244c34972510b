"""Positions for callers who give a mask and no ``position_ids``: real tokens count real tokens.

Stock code counts every slot, so what it computes for a row depends on the row's padding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from ..caches.static import is_static, self_attention_cache
from ..families.family import ModelFamily
from .forward_call import ForwardCall
from .visibility import on_host

__all__ = ["count_real_tokens", "pads_would_count", "stock_positions"]


def count_real_tokens(family: ModelFamily, model: Any, call: ForwardCall) -> Tensor | None:
    """``position_ids`` of a forward: those that were given, else from its 2-D mask.

    The position of a slot is the number of slots before it that count: real tokens, and pads that
    no real token follows. So pads on the left have 0, and those behind a row that is padded on the
    right go on counting, as in stock code.

    Args:
        family: of the model.
        model: the backbone.
        call: the forward.

    Returns:
        ``[batch, queries]`` int64, or what the caller gave; None where stock code shall count: no
        mask, a 4-D one, one of another width than that of the cache with the new tokens, or ids or
        a mask that a family counts by itself.
    """
    mask = call.mask
    if call.positions is not None or not isinstance(mask, Tensor) or mask.ndim == 4:
        return call.positions
    if call.batch is None or call.queries is None or _counts_itself(family, call):
        return None
    batch, queries = call.batch, call.queries
    cache = self_attention_cache(call.cache)
    if cache is not None and not isinstance(cache, Cache):  # a paged one is not
        return None
    filled = 0 if cache is None else cache.get_seq_length()
    if isinstance(filled, Tensor) and on_host(filled):
        filled = int(filled)
    width = mask.numel() // batch  # not divmod: sizes are tensors in a trace
    fits = width * batch == mask.numel()
    if not isinstance(filled, Tensor):
        spare = width - filled - queries
        fits = fits and (spare == 0 or (spare > 0 and is_static(cache)))
    if not fits:
        return None
    assert call.inputs is not None
    real = mask.reshape(batch, width).to(call.inputs.device) != 0
    return _from(family.first_position(model), _count(real, filled, queries))


def pads_would_count(family: ModelFamily, call: ForwardCall) -> bool:
    """Whether stock code counts pads before a real token; False if a device had to be asked."""
    mask = call.mask
    if call.positions is not None or not isinstance(mask, Tensor) or _counts_itself(family, call):
        return False
    if mask.ndim == 4 or not on_host(mask):
        return False
    real = mask != 0
    try:
        return bool((real[..., 1:] & ~real[..., :-1]).any())
    except RuntimeError:  # torch.func.vmap, FakeTensorMode and make_fx refuse to tell a value
        return False


def stock_positions(
    family: ModelFamily, model: nn.Module, call: ForwardCall, filled: int | Tensor
) -> Tensor:
    """``[batch or 1, queries]`` int64: what stock code counts where the caller gives nothing.

    Args:
        family: of the model.
        model: the backbone.
        call: the forward.
        filled: tokens before the new ones.
    """
    if call.ids is not None and family.counts_ids:
        pad = family.first_position(model) - 1
        real = (call.ids != pad).long()
        counted: Tensor = (real.cumsum(-1) + filled) * real + pad
        return counted
    assert call.inputs is not None and call.queries is not None
    if family.counts_mask and call.mask is not None:
        real = (call.mask != 0).long().to(call.inputs.device)
        return _new(real.cumsum(-1) * real - 1, filled, call.queries)
    slots = torch.arange(call.queries, device=call.inputs.device) + filled
    return _from(family.first_position(model), slots[None])


def _counts_itself(family: ModelFamily, call: ForwardCall) -> bool:
    return family.counts_mask or (family.counts_ids and call.ids is not None)


def _from(first: int, positions: Tensor) -> Tensor:
    return positions + first if first else positions


def _count(real: Tensor, filled: int | Tensor, queries: int) -> Tensor:
    """Positions of the slots from ``filled`` on; behind them the mask does not speak of tokens."""
    slots = torch.arange(real.shape[1], device=real.device)
    real = real & (slots < filled + queries)
    is_followed = real.flip(-1).cumsum(-1).flip(-1) > 0
    counts = (real | ~is_followed).long()
    return _new(counts.cumsum(-1) - counts, filled, queries)


def _new(positions: Tensor, filled: int | Tensor, queries: int) -> Tensor:
    """Of the positions ``[batch, slots]`` of all slots those of the new ones."""
    if not isinstance(filled, Tensor):
        return positions[:, filled : filled + queries]
    # Only a device knows where the new slots are.
    places = torch.arange(queries, device=positions.device) + filled
    return positions.index_select(1, places.clamp(max=positions.shape[1] - 1))
