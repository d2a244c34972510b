"""Positions that count real tokens only, for callers who give a mask and no positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..masks import positions_from_mask
from .static_cache import is_static, self_attention_cache

__all__ = ["count_real_tokens"]


def count_real_tokens(arguments: dict[str, Any]) -> Tensor | None:
    """``position_ids`` of a forward: those that were given, else from its 2-D mask, else None.

    Args:
        arguments: of the forward, by name.

    Returns:
        ``[batch, queries]`` int64, or what the caller gave.
    """
    given: Tensor | None = arguments.get("position_ids")
    mask = arguments.get("attention_mask")
    ids, embeds = arguments.get("input_ids"), arguments.get("inputs_embeds")
    if given is not None or not isinstance(mask, Tensor) or mask.ndim == 4:
        return given
    if ids is not None:
        queries = ids.shape[-1]
    elif embeds is not None:
        queries = embeds.shape[-2]
    else:
        return None
    positions = positions_from_mask(mask.reshape(-1, mask.shape[-1]))
    cache = self_attention_cache(arguments.get("past_key_values"))
    if not is_static(cache):
        return positions[:, -queries:]
    # Its mask may go on behind the new tokens, and where they are may be known to a device only.
    assert cache is not None
    columns = torch.arange(queries, device=positions.device) + cache.get_seq_length()
    return positions.index_select(1, columns)
