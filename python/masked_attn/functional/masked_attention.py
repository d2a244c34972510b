"""Fused attention over padded batches."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from ._checks import warn_zero_one_float
from ._ops import ops

__all__ = ["masked_attention"]


@overload
def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = ...,
    attn_mask: Tensor | None = ...,
    causal: bool = ...,
    window: int | None = ...,
    scale: float | None = ...,
    softcap: float | None = ...,
    sinks: Tensor | None = ...,
    alibi_slopes: Tensor | None = ...,
    dropout_p: float = ...,
    return_logsumexp: Literal[False] = ...,
    check: bool = ...,
) -> Tensor: ...


@overload
def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = ...,
    attn_mask: Tensor | None = ...,
    causal: bool = ...,
    window: int | None = ...,
    scale: float | None = ...,
    softcap: float | None = ...,
    sinks: Tensor | None = ...,
    alibi_slopes: Tensor | None = ...,
    dropout_p: float = ...,
    return_logsumexp: Literal[True],
    check: bool = ...,
) -> tuple[Tensor, Tensor]: ...


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
    dropout_p: float = 0.0,
    return_logsumexp: bool = False,
    check: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention over the visible keys only, without ever building the ``[queries, keys]`` matrix.

    The formula is scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), computed with
    the online softmax of Milakov and Gimelshein (2018).

    Args:
        query: ``[batch, heads, queries, head_dim]``.
        key: ``[batch, kv_heads, keys, head_dim]``; ``heads`` must be a multiple of ``kv_heads``.
        value: ``[batch, kv_heads, keys, value_dim]``. Key and value share a dtype, which is the
            query's, or float16/bfloat16 beside a float32 query.
        key_mask: ``[batch, keys]`` bool, True = may be seen (the ``attention_mask`` of a batch).
        attn_mask: bool or float, broadcastable to ``[batch, heads, queries, keys]``.
        causal: bottom-right aligned causal mask (the last query sees the last key).
        window: sliding window, in keys.
        scale: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        softcap: scores become ``softcap * tanh(score / softcap)`` before any mask or slope, as in
            Gemma 2; finite and above 0.
        sinks: ``[heads]``, any of the four dtypes: one more score for each head, which takes weight
            and gives no value, as in gpt-oss. ``-inf`` is none.
        alibi_slopes: ``[heads]`` or ``[batch, heads]``, any of the four dtypes: a score loses the
            slope for each key between it and the query's own position; the last query stands at
            the last key (ALiBi: Press et al. 2022).
        dropout_p: must be 0: dropout is not supported.
        return_logsumexp: also return the log-sum-exp of each query's visible scores, without the
            sink: ``out`` is what it is without sinks times ``sigmoid(logsumexp - sink)``.
        check: warn when a float ``attn_mask`` holds only 0 and 1 (probably meant as boolean).

    Returns:
        ``[batch, heads, queries, value_dim]`` of the query's dtype; exactly 0 for a query that sees
        no key. With ``return_logsumexp`` also ``[batch, heads, queries]``, natural logarithm,
        float32 (float64 for float64 inputs), ``-inf`` for a query that sees no key.

    Raises:
        RuntimeError: unsupported dtype, device or shape, non-finite ``scale``, a ``softcap``
            that is not finite and above 0, nonzero ``dropout_p``, or an input that requires grad.

    Example:
        >>> import torch
        >>> q = k = v = torch.ones(1, 1, 2, 4)
        >>> key_mask = torch.tensor([[False, True]])
        >>> masked_attention(q, k, v, key_mask=key_mask, causal=True)[0, 0, :, 0]
        tensor([0., 1.])
    """
    if check:
        warn_zero_one_float(attn_mask)
    op = ops._masked_attention_forward if return_logsumexp else ops.masked_attention
    result: Tensor | tuple[Tensor, Tensor] = op(
        query,
        key,
        value,
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=causal,
        window=window,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        alibi_slopes=alibi_slopes,
        dropout_p=dropout_p,
    )
    return result
