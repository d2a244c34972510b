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
    softcap: float | None = None,
    sinks: Tensor | None = None,
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
        softcap: bound of the scores.
        sinks: ``[heads]``, a score of each head that takes weight and gives no value.
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
    if softcap is not None:
        scores, scale = softcap * torch.tanh(scores * (scale / softcap)), 1.0
    mask = seen.additive(query)
    if sinks is not None or wants_grad(scores, mask):
        weights = _softmax_of_torch(scores * scale, mask, sinks)
    else:
        weights = masked_softmax(scores, attn_mask=mask, scale=scale)
    weights = torch.nn.functional.dropout(weights.to(value.dtype), p=dropout)
    return weights @ value, weights


def _softmax_of_torch(scores: Tensor, mask: Tensor, sinks: Tensor | None) -> Tensor:
    """``masked_softmax`` as torch can differentiate it: a row that sees nothing is 0, not NaN.

    A sink is one more column, without which the weights are returned.
    """
    keys = scores.shape[-1]
    masked = is_masked(mask)
    scores = (scores + mask).masked_fill(masked, -math.inf)
    empty = masked.all(dim=-1, keepdim=True)
    scores = scores.masked_fill(empty, 0.0)
    if sinks is not None:
        column = sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = torch.softmax(scores, dim=-1)[..., :keys]
    return weights.masked_fill(empty, 0.0)
