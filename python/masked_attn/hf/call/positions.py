"""Positions for callers who give a mask and no ``position_ids``: real tokens count real tokens.

Stock code counts every slot, so what it computes for a row depends on the row's padding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ..caches.static import is_static, self_attention_cache
from .visibility import on_host

__all__ = ["count_real_tokens", "pads_would_count"]


def count_real_tokens(arguments: dict[str, Any]) -> Tensor | None:
    """``position_ids`` of a forward: those that were given, else from its 2-D mask.

    The position of a slot is the number of slots before it that count: real tokens, and pads that
    no real token follows. So pads on the left have 0, and those behind a row that is padded on the
    right go on counting, as in stock code.

    Args:
        arguments: of the forward, by name.

    Returns:
        ``[batch, queries]`` int64, or what the caller gave; None where stock code shall count: no
        mask, a 4-D one, or one of another width than that of the cache with the new tokens.
    """
    given: Tensor | None = arguments.get("position_ids")
    mask = arguments.get("attention_mask")
    size = _size(arguments)
    if given is not None or not isinstance(mask, Tensor) or mask.ndim == 4 or size is None:
        return given
    batch, queries = size
    cache = self_attention_cache(arguments.get("past_key_values"))
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
    real = mask.reshape(batch, width).to(_inputs(arguments).device) != 0
    return _count(real, filled, queries)


def pads_would_count(arguments: dict[str, Any]) -> bool:
    """Whether stock code counts pads before a real token; False if a device had to be asked."""
    mask = arguments.get("attention_mask")
    if arguments.get("position_ids") is not None or not isinstance(mask, Tensor):
        return False
    if mask.ndim == 4 or not on_host(mask):
        return False
    real = mask != 0
    try:
        return bool((real[..., 1:] & ~real[..., :-1]).any())
    except RuntimeError:  # torch.func.vmap, FakeTensorMode and make_fx refuse to tell a value
        return False


def _inputs(arguments: dict[str, Any]) -> Any:
    ids = arguments.get("input_ids")
    return arguments.get("inputs_embeds") if ids is None else ids


def _size(arguments: dict[str, Any]) -> tuple[int, int] | None:
    """Rows and tokens of each row, if there are any."""
    inputs = _inputs(arguments)
    if inputs is None or not inputs.numel():
        return None
    tokens = inputs if arguments.get("input_ids") is not None else inputs[..., 0]
    return tokens.numel() // tokens.shape[-1], tokens.shape[-1]


def _count(real: Tensor, filled: int | Tensor, queries: int) -> Tensor:
    """Positions of the slots from ``filled`` on; behind them the mask does not speak of tokens."""
    slots = torch.arange(real.shape[1], device=real.device)
    real = real & (slots < filled + queries)
    is_followed = real.flip(-1).cumsum(-1).flip(-1) > 0
    counts = (real | ~is_followed).long()
    positions = counts.cumsum(-1) - counts
    if not isinstance(filled, Tensor):
        return positions[:, filled : filled + queries]
    # Only a device knows where the new slots are.
    places = torch.arange(queries, device=real.device) + filled
    return positions.index_select(1, places.clamp(max=real.shape[1] - 1))
