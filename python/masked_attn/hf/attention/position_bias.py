"""The bias that T5 and models like it add to their scores, brought to the operators as a mask.

Key mask, causality and window go beside it as they are, and one bias for all rows stays one. The
surprise: T5 writes the heads side by side, and an operator that reads keys in jumps loses more time
than one copy for a layer takes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..call.visibility import Visibility, is_masked

__all__ = ["add_position_bias"]


def add_position_bias(seen: Visibility, bias: Tensor, query: Tensor, key: Tensor) -> Visibility:
    """The same masks, and a bias on the scores.

    Args:
        seen: the masks. One of four dimensions is joined to the bias: that is a new tensor.
        bias: float, broadcastable to ``[batch, heads, queries, keys]``.
        query: ``[batch, heads, queries, head_dim]``.
        key: ``[batch, kv_heads, keys, head_dim]``.

    Raises:
        ValueError: the bias is no float tensor of such a shape.
    """
    _check(bias, [*query.shape[:3], key.shape[2]])
    bias, mask = bias[..., : seen.keys], seen.attn_mask
    if mask is None:
        joined = _with_keys_side_by_side(bias)
    elif mask.dtype == torch.bool:
        joined = bias.masked_fill(~mask, -math.inf)
    else:
        joined = (bias + mask).masked_fill(is_masked(mask), -math.inf)
    return replace(seen, attn_mask=joined)


def _with_keys_side_by_side(bias: Tensor) -> Tensor:
    """Itself where they lie so, or where there is one query; never a copy for each row."""
    if bias.shape[2] == 1 or bias.stride(3) in (0, 1):
        return bias
    for dim in range(3):
        if bias.stride(dim) == 0:
            bias = bias.narrow(dim, 0, 1)
    return bias.contiguous()


def _check(bias: Tensor, shape: list[int]) -> None:
    if not isinstance(bias, Tensor) or not bias.is_floating_point():
        what = f"a {bias.dtype} tensor" if isinstance(bias, Tensor) else type(bias).__name__
        raise ValueError(f"masked_attn: position_bias must be a float tensor, got {what}")
    fits = bias.ndim == 4 and all(
        size in (1, whole) for size, whole in zip(bias.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            "masked_attn: position_bias must be broadcastable to [batch, heads, queries, keys] = "
            f"{shape}, got {list(bias.shape)}"
        )
