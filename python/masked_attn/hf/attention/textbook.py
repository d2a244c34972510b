"""Attention step by step, for teaching, for weights, and where gradients pass through it."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from ...functional import masked_softmax
from ..call.visibility import Visibility, is_masked, wants_grad

__all__ = ["textbook_attention"]


def textbook_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Visibility,
    *,
    scale: float,
    dropout: float = 0.0,
    upcast: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention step by step: scores, expanded mask, softmax, product.

    Args:
        query: ``[batch, heads, queries, head_dim]``.
        key: ``[batch, kv_heads, keys, head_dim]``.
        value: ``[batch, kv_heads, keys, value_dim]``.
        seen: the masks.
        scale: factor of the scores.
        dropout: probability of dropping a weight.
        upcast: compute scores and softmax in float32.

    Returns:
        ``[batch, heads, queries, value_dim]`` and the weights ``[batch, heads, queries, keys]``.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    upcast = upcast and query.element_size() < 4
    if upcast:
        query, key = query.float(), key.float()
    # Else a region of autocast would multiply in its own dtype again.
    with torch.autocast(query.device.type, enabled=False) if upcast else nullcontext():
        scores = query @ key.transpose(-1, -2)
    mask = seen.additive(query)
    if wants_grad(scores, mask):
        weights = _softmax_with_gradient(scores * scale, mask)
    else:
        weights = masked_softmax(scores, attn_mask=mask, scale=scale)
    weights = torch.nn.functional.dropout(weights.to(value.dtype), p=dropout)
    return weights @ value, weights


def _softmax_with_gradient(scores: Tensor, mask: Tensor) -> Tensor:
    """``masked_softmax`` as torch can differentiate it: a row that sees nothing is 0, not NaN."""
    masked = is_masked(mask)
    scores = (scores + mask).masked_fill(masked, -math.inf)
    empty = masked.all(dim=-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(empty, 0.0), dim=-1)
    return weights.masked_fill(empty, 0.0)
