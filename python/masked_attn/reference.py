"""The slow, obvious truth: each operator in a few eager lines, any device, any floating dtype.

Nothing here is fast, and everything here builds the full ``[queries, keys]`` matrix. Tests compare
the operators with these functions in float64; readers find here what the operators mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "cached_attention",
    "expand_mask",
    "linear",
    "masked_attention",
    "masked_softmax",
    "packed_attention",
    "visible",
]


def position_visible(
    queries: int,
    keys: int,
    *,
    causal: bool = False,
    window: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Which key each query may see by position alone: bool ``[queries, keys]``."""
    query_position, key_position = _positions(queries, keys, device)
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
    if causal:
        seen &= key_position <= query_position
    if window is not None:
        window = min(window, queries + keys)  # sees as much, and no sum overflows
        seen &= key_position > query_position - window
        if not causal:
            seen &= key_position < query_position + window
    return seen


def _positions(queries: int, keys: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """``[queries, 1]`` and ``[1, keys]``: the last query stands at the last key."""
    query_position = torch.arange(queries, device=device)[:, None] + (keys - queries)
    return query_position, torch.arange(keys, device=device)[None, :]


def _distances(queries: int, keys: int, device: torch.device | None) -> Tensor:
    query_position, key_position = _positions(queries, keys, device)
    return (query_position - key_position).abs()


def visible(
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    *,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The one rule of visibility: bool ``[batch, heads, queries, keys]``, True = may be seen."""
    seen = position_visible(queries, keys, causal=causal, window=window, device=device)
    seen = seen.expand(batch, heads, queries, keys)
    if key_mask is not None:
        seen = seen & key_mask[:, None, None, :]
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            seen = seen & attn_mask
        else:
            seen = seen & ~(attn_mask <= 0.5 * torch.finfo(attn_mask.dtype).min)
    return seen


def expand_mask(
    mask: Tensor,
    *,
    dtype: torch.dtype,
    query_length: int | None = None,
    causal: bool = False,
    window: int | None = None,
    fill: float | None = None,
) -> Tensor:
    """Additive mask ``[batch, 1, queries, keys]``: 0 where visible, ``fill`` (-inf) elsewhere."""
    batch, keys = mask.shape
    queries = keys if query_length is None else query_length
    key_mask = mask != 0
    seen = visible(
        batch, 1, queries, keys, key_mask=key_mask, causal=causal, window=window, device=mask.device
    )
    expanded = torch.zeros(seen.shape, dtype=dtype, device=mask.device)
    return expanded.masked_fill(~seen, float("-inf") if fill is None else fill)


def masked_softmax(
    scores: Tensor,
    *,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float = 1.0,
) -> Tensor:
    """``softmax(scale * scores + mask)`` over the visible keys; rows that see nothing are 0."""
    weights, _, _ = _softmax_and_logsumexp(
        scores * scale, key_mask=key_mask, attn_mask=attn_mask, causal=causal, window=window
    )
    return weights


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Output ``[batch, heads, queries, value_dim]`` and log-sum-exp ``[batch, heads, queries]``.

    The log-sum-exp is that of the keys alone, without the sink.
    """
    head_dim = query.shape[-1]
    if scale is None:
        scale = head_dim**-0.5 if head_dim else 1.0
    groups = query.shape[1] // key.shape[1] if key.shape[1] else 1
    key = key.to(query.dtype).repeat_interleave(groups, dim=1)
    value = value.to(query.dtype).repeat_interleave(groups, dim=1)
    scores = (query * scale) @ key.transpose(-1, -2)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if alibi_slopes is not None:
        slopes = alibi_slopes.to(scores.dtype)[..., None, None]
        scores = scores - slopes * _distances(*scores.shape[-2:], device=scores.device)
    weights, logsumexp, seen = _softmax_and_logsumexp(
        scores, key_mask=key_mask, attn_mask=attn_mask, causal=causal, window=window
    )
    if sinks is not None:
        # One more term in the sum below: exp(logsumexp) / (exp(logsumexp) + exp(sink)) is left.
        left = torch.sigmoid(logsumexp - sinks.to(scores.dtype)[:, None])
        weights = (weights * left[..., None]).masked_fill(~seen, 0.0)
    return _product_of_seen(weights, value, seen), logsumexp


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int | None = None,
    *,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_k: int | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Output ``[tokens, heads, value_dim]``, log-sum-exp ``[heads, tokens]``: one by one.

    The two largest lengths say nothing that the offsets do not say, and are not looked at.
    """
    tokens, heads, _ = query.shape
    out = query.new_zeros(tokens, heads, value.shape[-1])
    logsumexp = query.new_full((heads, tokens), float("-inf"))
    queries = cu_seqlens.tolist()
    keys = queries if cu_seqlens_k is None else cu_seqlens_k.tolist()
    for n in range(len(queries) - 1):
        own, seen = slice(*queries[n : n + 2]), slice(*keys[n : n + 2])
        heads_first = (t.transpose(0, 1)[None] for t in (query[own], key[seen], value[seen]))
        slopes = alibi_slopes
        if slopes is not None and slopes.dim() == 2:
            slopes = slopes[n : n + 1]
        row, sums = masked_attention(
            *heads_first,
            causal=causal,
            window=window,
            scale=scale,
            softcap=softcap,
            sinks=sinks,
            alibi_slopes=slopes,
        )
        out[own] = row[0].transpose(0, 1)
        logsumexp[:, own] = sums[0]
    return out, logsumexp


def cached_attention(
    query: Tensor,
    new_key: Tensor,
    new_value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    position: int,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Write the new slots into the caches, then attend causally over all that is filled."""
    end = position + query.shape[2]
    key_cache[:, :, position:end] = new_key.to(key_cache.dtype)
    value_cache[:, :, position:end] = new_value.to(value_cache.dtype)
    out, _ = masked_attention(
        query,
        key_cache[:, :, :end],
        value_cache[:, :, :end],
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=True,
        window=window,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        alibi_slopes=alibi_slopes,
    )
    return out


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    transposed: bool = False,
    activation: str | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """``activation(input @ weight.T + bias) * multiplier``."""
    matrix = weight if transposed else weight.transpose(0, 1)
    out = input @ matrix.to(input.dtype)
    if bias is not None:
        out = out + bias.to(input.dtype)
    if activation == "gelu_tanh":
        out = functional.gelu(out, approximate="tanh")
    elif activation is not None:
        out = getattr(functional, activation)(out)
    return out if multiplier is None else out * multiplier


def _softmax_and_logsumexp(
    scores: Tensor,
    *,
    key_mask: Tensor | None,
    attn_mask: Tensor | None,
    causal: bool,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, log-sum-exp, and who sees whom."""
    seen = visible(
        *scores.shape,
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=causal,
        window=window,
        device=scores.device,
    )
    if attn_mask is not None and attn_mask.is_floating_point():
        scores = scores + attn_mask.to(scores.dtype)
    scores = scores.masked_fill(~seen, float("-inf"))
    logsumexp = scores.logsumexp(dim=-1)
    empty = (scores == float("-inf")).all(dim=-1, keepdim=True)
    weights = scores.softmax(dim=-1).masked_fill(~seen | empty, 0.0)
    return weights, logsumexp, seen


def _product_of_seen(weights: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """``weights @ value`` that takes nothing, not even ``0 * NaN``, from values not seen."""
    if value.isfinite().all():
        return weights @ value
    products = weights[..., None] * value[..., None, :, :]
    return products.masked_fill(~seen[..., None], 0.0).sum(dim=-2)
