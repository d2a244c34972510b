"""Fused attention over sequences that lie back to back, without padding."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from ._ops import ops

__all__ = ["packed_attention"]


@overload
def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    cu_seqlens_k: Tensor | None = ...,
    max_seqlen_k: int | None = ...,
    causal: bool = ...,
    window: int | None = ...,
    scale: float | None = ...,
    softcap: float | None = ...,
    sinks: Tensor | None = ...,
    alibi_slopes: Tensor | None = ...,
    return_logsumexp: Literal[False] = ...,
) -> Tensor: ...


@overload
def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    cu_seqlens_k: Tensor | None = ...,
    max_seqlen_k: int | None = ...,
    causal: bool = ...,
    window: int | None = ...,
    scale: float | None = ...,
    softcap: float | None = ...,
    sinks: Tensor | None = ...,
    alibi_slopes: Tensor | None = ...,
    return_logsumexp: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_k: int | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
    return_logsumexp: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention of sequences of different lengths that lie back to back: no padding at all.

    Each sequence has the same bits as ``masked_attention`` on it alone, and as the same row of a
    padded batch. ``masked_attn.masks.packed_tokens`` makes the arguments from a padding mask.

    Args:
        query: ``[tokens, heads, head_dim]``, all sequences together.
        key: ``[keys, kv_heads, head_dim]``; ``heads`` must be a multiple of ``kv_heads``.
        value: ``[keys, kv_heads, value_dim]``. Key and value share a dtype, which is the query's,
            or float16/bfloat16 beside a float32 query.
        cu_seqlens: ``[sequences + 1]`` int32 or int64, on the device of the query: sequence ``n``
            has the queries from ``cu_seqlens[n]`` up to ``cu_seqlens[n + 1]``. It starts with 0,
            ends with ``tokens``, and may repeat a value (an empty sequence).
        max_seqlen: at least the largest number of queries of a sequence.
        cu_seqlens_k: the same for keys, which may be more or fewer than queries; ``None`` means
            that each sequence has as many keys as queries.
        max_seqlen_k: at least the largest number of keys of a sequence; given with
            ``cu_seqlens_k`` only.
        causal: bottom-right aligned in each sequence (its last query sees its last key).
        window: sliding window, in keys.
        scale: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        softcap: as in ``masked_attention``.
        sinks: ``[heads]``, as in ``masked_attention``.
        alibi_slopes: ``[heads]`` or ``[sequences, heads]``, as in ``masked_attention``; distances
            are those within a sequence.
        return_logsumexp: also return the log-sum-exp of each query's visible scores, without the
            sink.

    Returns:
        ``[tokens, heads, value_dim]`` of the query's dtype; exactly 0 for a query that sees no key.
        With ``return_logsumexp`` also ``[heads, tokens]`` (the order of flash-attn's varlen
        functions), natural logarithm, float32 (float64 for float64 inputs), ``-inf`` for a query
        that sees no key.

    Raises:
        RuntimeError: unsupported dtype, device or shape, non-finite ``scale``, a ``softcap``
            that is not finite and above 0, or an input that requires grad. On the CPU also offsets
            that do not start at 0, decrease, do not end at the number of tokens, or give a length
            above its maximum. On CUDA wrong offsets are no error, because looking at them would
            mean waiting for the device: one below 0 counts as 0, one beyond the last token as the
            number of tokens, a longer sequence is cut. The results are then worthless, and a token
            that is in no sequence is never written.

    Example:
        >>> import torch
        >>> q = k = torch.zeros(5, 1, 4)
        >>> v = torch.arange(5.0)[:, None, None]
        >>> cu_seqlens = torch.tensor([0, 2, 5])
        >>> packed_attention(q, k, v, cu_seqlens, 3, causal=True)[:, 0, 0]
        tensor([0.0000, 0.5000, 2.0000, 2.5000, 3.0000])
    """
    op = ops._packed_attention_forward if return_logsumexp else ops.packed_attention
    result: Tensor | tuple[Tensor, Tensor] = op(
        query,
        key,
        value,
        cu_seqlens,
        max_seqlen,
        cu_seqlens_k=cu_seqlens_k,
        max_seqlen_k=max_seqlen_k,
        causal=causal,
        window=window,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        alibi_slopes=alibi_slopes,
    )
    return result
