"""Batches of one length: ``flash_attn_func`` and what takes its tensors stacked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ._attend import attend
from ._checks import has_shape, refuse_dropout, refuse_gradient
from ._how import Asked, how_of

__all__ = ["flash_attn_func", "flash_attn_kvpacked_func", "flash_attn_qkvpacked_func"]

Result = Tensor | tuple[Tensor, Tensor | None, None]


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """Attention over a batch, in the layout and with the arguments of flash-attn 2.

    Args:
        q: ``[batch, seqlen_q, heads, head_dim]``, float32, float64, float16 or bfloat16.
        k: ``[batch, seqlen_k, heads_k, head_dim]``; ``heads`` must be a multiple of ``heads_k``.
        v: ``[batch, seqlen_k, heads_k, value_dim]``.
        dropout_p: must be 0.
        softmax_scale: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        causal: the last query sees the last key, the one before it all but the last, and so on.
        window_size: ``(left, right)``: a query that stands at key p sees the keys from ``p - left``
            up to ``p + right``; a negative number is no bound. Windows other than ``(n, n)``, or
            ``(n, 0)``, cost a boolean mask ``[seqlen_q, seqlen_k]``.
        softcap: scores become ``softcap * tanh(score / softcap)`` where it is above 0.
        alibi_slopes: ``[heads]`` or ``[batch, heads]``: scores lose ``slope * |p - j|``, where p is
            the position ``i + seqlen_k - seqlen_q`` of query i, and j that of the key.
        deterministic: accepted; results are the same either way.
        return_attn_probs: also return the log-sum-exp, and None in place of ``S_dmask``.

    Returns:
        ``[batch, seqlen_q, heads, value_dim]``, contiguous, of the dtype of ``q``; exactly 0 for a
        query that sees no key. With ``return_attn_probs`` the tuple ``(out, softmax_lse, None)``:
        ``softmax_lse`` is ``[batch, heads, seqlen_q]``, float32 (float64 for float64), ``-inf`` for
        a query that sees no key. The probabilities themselves are never computed.

    Raises:
        RuntimeError: unsupported dtype, device, shape or value, nonzero ``dropout_p``, or an
            argument that requires grad.

    Example:
        >>> import torch
        >>> q = k = torch.zeros(1, 3, 1, 8)
        >>> v = torch.tensor([0.0, 3.0, 9.0])[None, :, None, None]
        >>> flash_attn_func(q, k, v, causal=True).flatten()
        tensor([0.0000, 1.5000, 4.0000])
    """
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _dense("flash_attn_func", (q, k, v), dropout_p, asked, return_attn_probs)


def flash_attn_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_func`` of ``kv``: ``[batch, seqlen_k, 2, heads_k, head_dim]``."""
    function = "flash_attn_kvpacked_func"
    layout = "[batch, seqlen_k, 2, heads_k, head_dim]"
    has_shape(function, "kv", kv, layout, (None, None, 2, None, None))
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _dense(function, (q, *kv.unbind(2)), dropout_p, asked, return_attn_probs)


def flash_attn_qkvpacked_func(
    qkv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_func`` of ``qkv``: ``[batch, seqlen, 3, heads, head_dim]``."""
    function = "flash_attn_qkvpacked_func"
    layout = "[batch, seqlen, 3, heads, head_dim]"
    has_shape(function, "qkv", qkv, layout, (None, None, 3, None, None))
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _dense(function, qkv.unbind(2), dropout_p, asked, return_attn_probs)


def _dense(
    function: str,
    tensors: tuple[Tensor, ...],
    dropout_p: float,
    asked: Asked,
    return_attn_probs: bool,
) -> Result:
    q, k, v = tensors
    refuse_dropout(function, dropout_p)
    refuse_gradient(function, q=q, k=k, v=v, alibi_slopes=asked.alibi_slopes)
    has_shape(function, "q", q, "[batch, seqlen_q, heads, head_dim]", (None,) * 4)
    batch, _, heads, head_dim = q.shape
    has_shape(
        function, "k", k, "[batch, seqlen_k, heads_k, head_dim]", (batch, None, None, head_dim)
    )
    seqlen_k, heads_k = k.shape[1:3]
    has_shape(
        function, "v", v, "[batch, seqlen_k, heads_k, value_dim]", (batch, seqlen_k, heads_k, None)
    )
    how = how_of(function, asked, batch=batch, heads=heads)
    out, lse = attend(q, k, v, how, return_lse=return_attn_probs)
    return (out, lse, None) if return_attn_probs else out
