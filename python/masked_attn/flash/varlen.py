"""Sequences of different lengths back to back: ``flash_attn_varlen_func`` and its stacked forms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..functional import packed_attention
from ._attend import attend
from ._checks import has_shape, is_integer, refuse, refuse_dropout, refuse_gradient
from ._how import Asked, How, dtype_of_sums, how_of
from ._pages import packed_pages
from .dense import Result

__all__ = [
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
]


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int | Tensor,
    max_seqlen_k: int | Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Result:
    """Attention of sequences that lie back to back, with the arguments of flash-attn 2.

    Args:
        q: ``[tokens_q, heads, head_dim]``, float32, float64, float16 or bfloat16.
        k: ``[tokens_k, heads_k, head_dim]``, or ``[blocks, block_size, heads_k, head_dim]`` beside
            a ``block_table``.
        v: as ``k``, of ``value_dim``.
        cu_seqlens_q: ``[batch + 1]`` int32 or int64: sequence n has the queries from
            ``cu_seqlens_q[n]`` up to ``cu_seqlens_q[n + 1]``.
        cu_seqlens_k: the same for keys.
        max_seqlen_q: at least the largest number of queries of a sequence.
        max_seqlen_k: at least the largest number of keys of a sequence.
        dropout_p: must be 0.
        softmax_scale: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        causal: in each sequence the last query sees the last key, and so on backwards.
        window_size: as in ``flash_attn_func``. With windows that are not ``(n, n)`` or ``(n, 0)``
            sequences run one after the other, and their lengths are needed on the host.
        softcap: as in ``flash_attn_func``.
        alibi_slopes: ``[heads]`` or ``[batch, heads]``, as in ``flash_attn_func``.
        deterministic: accepted; results are the same either way.
        return_attn_probs: also return the log-sum-exp, and None in place of ``S_dmask``.
        block_table: ``[batch, blocks_of_a_sequence]`` int32: the blocks that hold the keys of each
            sequence. They are copied together for the call, which needs the lengths on the host.

    Returns:
        ``[tokens_q, heads, value_dim]`` of the dtype of ``q``; exactly 0 for a query that sees no
        key. With ``return_attn_probs`` the tuple ``(out, softmax_lse, None)``; ``softmax_lse`` is
        ``[heads, tokens_q]``, float32 (float64 for float64).

    Raises:
        RuntimeError: unsupported dtype, device, shape or value, nonzero ``dropout_p``, an argument
            that requires grad; on a CPU also wrong offsets or blocks.

    Example:
        >>> import torch
        >>> q = k = torch.zeros(5, 1, 4)
        >>> v = torch.arange(5.0)[:, None, None]
        >>> cu = torch.tensor([0, 2, 5], dtype=torch.int32)
        >>> flash_attn_varlen_func(q, k, v, cu, cu, 3, 3, causal=True).flatten()
        tensor([0.0000, 0.5000, 2.0000, 2.5000, 3.0000])
    """
    function = "flash_attn_varlen_func"
    refuse_dropout(function, dropout_p)
    refuse_gradient(function, q=q, k=k, v=v, alibi_slopes=alibi_slopes)
    if block_table is not None:
        k, v = packed_pages(function, q, k, v, cu_seqlens_k, block_table)
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _varlen(
        function,
        (q, k, v),
        (cu_seqlens_q, cu_seqlens_k),
        (int(max_seqlen_q), int(max_seqlen_k)),
        asked,
        return_attn_probs,
    )


def flash_attn_varlen_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int | Tensor,
    max_seqlen_k: int | Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_varlen_func`` of ``kv``: ``[tokens_k, 2, heads_k, head_dim]``."""
    function = "flash_attn_varlen_kvpacked_func"
    refuse_dropout(function, dropout_p)
    refuse_gradient(function, q=q, kv=kv, alibi_slopes=alibi_slopes)
    has_shape(function, "kv", kv, "[tokens_k, 2, heads_k, head_dim]", (None, 2, None, None))
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _varlen(
        function,
        (q, *kv.unbind(1)),
        (cu_seqlens_q, cu_seqlens_k),
        (int(max_seqlen_q), int(max_seqlen_k)),
        asked,
        return_attn_probs,
    )


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int | Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_varlen_func`` of ``qkv``: ``[tokens, 3, heads, head_dim]``."""
    function = "flash_attn_varlen_qkvpacked_func"
    refuse_dropout(function, dropout_p)
    refuse_gradient(function, qkv=qkv, alibi_slopes=alibi_slopes)
    has_shape(function, "qkv", qkv, "[tokens, 3, heads, head_dim]", (None, 3, None, None))
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _varlen(
        function,
        qkv.unbind(1),
        (cu_seqlens, cu_seqlens),
        (int(max_seqlen), int(max_seqlen)),
        asked,
        return_attn_probs,
    )


def _varlen(
    function: str,
    tensors: tuple[Tensor, ...],
    offsets: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    asked: Asked,
    return_attn_probs: bool,
) -> Result:
    q, k, v = tensors
    has_shape(function, "q", q, "[tokens_q, heads, head_dim]", (None,) * 3)
    has_shape(function, "k", k, "[tokens_k, heads_k, head_dim]", (None, None, q.shape[2]))
    has_shape(function, "v", v, "[tokens_k, heads_k, value_dim]", (*k.shape[:2], None))
    batch = max(offsets[0].numel() - 1, 0)
    for name, each in zip(("cu_seqlens_q", "cu_seqlens_k"), offsets, strict=True):
        has_shape(function, name, each, "[batch + 1]", (batch + 1,))
        is_integer(function, name, each, q.device)
    how = how_of(function, asked, batch=batch, heads=q.shape[1])
    position = how.position(*longest)
    if position is None:
        pair = _one_by_one(function, (q, k, v), offsets, longest, how)
        return (*pair, None) if return_attn_probs else pair[0]
    keywords = {
        "cu_seqlens_k": offsets[1],
        "max_seqlen_k": longest[1],
        "causal": position[0],
        "window": position[1],
        **how.scores(),
    }
    queries = (offsets[0], longest[0])
    if not return_attn_probs:
        out: Tensor = packed_attention(q, k, v, *queries, **keywords)
        return out
    pair = packed_attention(q, k, v, *queries, return_logsumexp=True, **keywords)
    return (*pair, None)


def _one_by_one(
    function: str,
    tensors: tuple[Tensor, Tensor, Tensor],
    offsets: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    how: How,
) -> tuple[Tensor, Tensor]:
    """Each sequence by a call of its own, for windows that the packed operator does not have."""
    q, k, v = tensors
    queries = _read(function, "cu_seqlens_q", offsets[0], q.shape[0], longest[0])
    keys = _read(function, "cu_seqlens_k", offsets[1], k.shape[0], longest[1])
    outs, sums = [q.new_empty(0, q.shape[1], v.shape[2])], []
    for row, (own, seen) in enumerate(zip(queries, keys, strict=True)):
        each = (q[None, own], k[None, seen], v[None, seen])
        out, lse = attend(*each, how.of_row(row), return_lse=True)
        assert lse is not None
        outs.append(out[0])
        sums.append(lse[0])
    sums.append(q.new_empty(q.shape[1], 0, dtype=dtype_of_sums(q)))
    return torch.cat(outs), torch.cat(sums, dim=1)


def _read(function: str, name: str, offsets: Tensor, tokens: int, longest: int) -> list[slice]:
    """The tokens of each sequence, on the host."""
    numbers = offsets.tolist()
    lengths = offsets.diff().tolist()
    if numbers[0] != 0 or numbers[-1] != tokens or any(length < 0 for length in lengths):
        refuse(function, f"{name} must grow from 0 to {tokens}, the number of tokens")
    if any(length > longest for length in lengths):
        refuse(function, f"{name} has a sequence of {max(lengths)}, which is above {longest}")
    return [slice(*numbers[row : row + 2]) for row in range(len(lengths))]
