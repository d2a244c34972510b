"""Calls of the operator for tensors in flash-attn's order of dimensions, read in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional import masked_attention
from ._how import How, dtype_of_sums

__all__ = ["attend", "attend_one_query"]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    how: How,
    *,
    key_mask: Tensor | None = None,
    return_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``[batch, seqlen, heads, head_dim]`` -> the same, and ``[batch, heads, seqlen]`` if asked."""
    queries, keys = q.shape[1], k.shape[1]
    position = how.position(queries, keys)
    attn_mask = how.seen(queries, keys, q.device) if position is None else None
    causal, window = position or (False, None)
    return call(
        q,
        k,
        v,
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=causal,
        window=window,
        return_lse=return_lse,
        **how.scores(),
    )


def call(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: bool, **keywords: Any
) -> tuple[Tensor, Tensor | None]:
    tensors = (tensor.transpose(1, 2) for tensor in (q, k, v))
    if not return_lse:
        return masked_attention(*tensors, **keywords).transpose(1, 2), None
    out, lse = masked_attention(*tensors, return_logsumexp=True, **keywords)
    return out.transpose(1, 2), lse


def attend_one_query(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    begin: Tensor,
    end: Tensor,
    how: How,
    *,
    return_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """One query a row, which stands at slot ``end - 1`` and sees slots from ``begin`` on.

    Args:
        begin: ``[batch]``; ``end`` alike. A key mask says these, however rows differ.
    """
    slots = torch.arange(k.shape[1], device=q.device)
    if how.left is not None:
        begin = torch.maximum(begin, end - 1 - how.left)
    key_mask = (slots >= begin[:, None]) & (slots < end[:, None])
    bias = None
    if how.alibi_slopes is not None:
        # Distances count from each row's own last slot; the operator counts from one for all.
        away = (slots - (end[:, None] - 1)).abs()[:, None, None, :]
        slopes = how.alibi_slopes.to(dtype_of_sums(q))
        bias = away * -slopes.reshape(-1, slopes.shape[-1], 1, 1)
    scores = how._replace(alibi_slopes=None).scores()
    return call(q, k, v, key_mask=key_mask, attn_mask=bias, return_lse=return_lse, **scores)
