"""The operators as Python functions. This is the only file that says ``torch.ops``.

Masks follow one rule everywhere: boolean ``True`` means "may be seen"; a float mask is added to the
scores, and its values at or below ``0.5 * finfo(dtype).min`` (``-inf`` included) mean "not seen".
"""

from __future__ import annotations

import warnings
from typing import Literal, overload

import torch
from torch import Tensor

__all__ = ["cached_attention", "expand_mask", "masked_attention", "masked_softmax"]

_ops = torch.ops.masked_attn


def expand_mask(
    mask: Tensor,
    *,
    dtype: torch.dtype,
    query_length: int | None = None,
    causal: bool = False,
    window: int | None = None,
    fill: float | None = None,
    check: bool = False,
) -> Tensor:
    """Expand a 0/1 padding mask to the additive mask that is added to attention scores.

    Args:
        mask: ``[batch, keys]``, bool, integer or float; nonzero means "may be seen".
        dtype: floating dtype of the result.
        query_length: number of queries; ``None`` means as many as keys.
        causal: query ``i`` sees key ``j`` only if ``j <= i + (keys - query_length)``.
        window: query ``i`` sees only the ``window`` keys up to its own position (and as many after
            it when not ``causal``).
        fill: value of masked positions; ``None`` means ``-inf``.
        check: refuse values other than 0 and 1 (a debugging aid; it reads the whole mask).

    Returns:
        ``[batch, 1, query_length, keys]`` of ``dtype``: 0 where visible, ``fill`` where masked.

    Raises:
        RuntimeError: wrong rank or dtype, or a finite ``fill`` that overflows ``dtype``.
        ValueError: ``check`` found a value other than 0 and 1.

    Example:
        >>> expand_mask(torch.tensor([[0, 1]]), dtype=torch.float32, causal=True)
        tensor([[[[-inf, -inf],
                  [-inf, 0.]]]])
    """
    if check:
        _check_zero_one(mask)
    result: Tensor = _ops.expand_mask(
        mask, dtype=dtype, query_length=query_length, causal=causal, window=window, fill=fill
    )
    return result


def masked_softmax(
    scores: Tensor,
    *,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float = 1.0,
    check: bool = False,
) -> Tensor:
    """Scale, mask and normalise attention scores in one pass: ``softmax(scale * scores + mask)``.

    Args:
        scores: ``[batch, heads, queries, keys]``, float32, float64, float16 or bfloat16.
        key_mask: ``[batch, keys]`` bool, True = may be seen.
        attn_mask: bool or float, broadcastable to ``scores``.
        causal: bottom-right aligned causal mask (the last query sees the last key).
        window: sliding window, in keys.
        scale: factor of the scores, applied before the mask.
        check: warn when a float ``attn_mask`` holds only 0 and 1 (probably meant as boolean).

    Returns:
        ``[batch, heads, queries, keys]`` of the dtype of ``scores``. Masked keys get exactly 0; a
        query that sees no key gets a row of zeros. Sums are float32 (float64 for float64).

    Raises:
        RuntimeError: unsupported dtype or shape, or an input that requires grad.

    Example:
        >>> key_mask = torch.tensor([[False, True, True, False]])
        >>> masked_softmax(torch.zeros(1, 1, 1, 4), key_mask=key_mask)
        tensor([[[[0.0000, 0.5000, 0.5000, 0.0000]]]])
    """
    if check:
        _warn_zero_one_float(attn_mask)
    result: Tensor = _ops.masked_softmax(
        scores,
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=causal,
        window=window,
        scale=scale,
    )
    return result


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
        dropout_p: must be 0: dropout is not supported.
        return_logsumexp: also return the log-sum-exp of each query's visible scores.
        check: warn when a float ``attn_mask`` holds only 0 and 1 (probably meant as boolean).

    Returns:
        ``[batch, heads, queries, value_dim]`` of the query's dtype; exactly 0 for a query that sees
        no key. With ``return_logsumexp`` also ``[batch, heads, queries]``, natural logarithm,
        float32 (float64 for float64 inputs), ``-inf`` for a query that sees no key.

    Raises:
        RuntimeError: unsupported dtype, device or shape, non-finite ``scale``, nonzero
            ``dropout_p``, or an input that requires grad.

    Example:
        >>> q = k = v = torch.ones(1, 1, 2, 4)
        >>> key_mask = torch.tensor([[False, True]])
        >>> masked_attention(q, k, v, key_mask=key_mask, causal=True)[0, 0, :, 0]
        tensor([0., 1.])
    """
    if check:
        _warn_zero_one_float(attn_mask)
    if return_logsumexp:
        pair: tuple[Tensor, Tensor] = _ops._masked_attention_forward(
            query,
            key,
            value,
            key_mask=key_mask,
            attn_mask=attn_mask,
            causal=causal,
            window=window,
            scale=scale,
            dropout_p=dropout_p,
        )
        return pair
    result: Tensor = _ops.masked_attention(
        query,
        key,
        value,
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=causal,
        window=window,
        scale=scale,
        dropout_p=dropout_p,
    )
    return result


def cached_attention(
    query: Tensor,
    new_key: Tensor,
    new_value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    position: int | Tensor,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    window: int | None = None,
    scale: float | None = None,
    check: bool = False,
) -> Tensor:
    """Write new keys and values into the caches, then attend causally over all that is there.

    Slots ``[position, position + queries)`` of every row are written, and query ``i`` sees the
    slots up to ``position + i``: one decode step in one call.

    Args:
        query: ``[batch, heads, queries, head_dim]``.
        new_key: ``[batch, kv_heads, queries, head_dim]``, dtype of ``query``.
        new_value: ``[batch, kv_heads, queries, value_dim]``, dtype of ``query``.
        key_cache: ``[batch, kv_heads, capacity, head_dim]``, written in place; may be a strided
            view, and float16/bfloat16 beside a float32 query.
        value_cache: ``[batch, kv_heads, capacity, value_dim]``, written in place.
        position: number of slots already filled: an int, or an int64 scalar tensor on the device,
            which is never read by the host and is clamped to ``[0, capacity - queries]``.
        key_mask: bool, True = may be seen; ``[batch, position + queries]`` for an int position,
            ``[batch, capacity]`` for a tensor.
        attn_mask: bool or float, broadcastable to ``[batch, heads, queries, keys]`` where ``keys``
            is the length of ``key_mask`` above.
        window: sliding window, in keys.
        scale: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        check: warn when a float ``attn_mask`` holds only 0 and 1 (probably meant as boolean).

    Returns:
        ``[batch, heads, queries, value_dim]`` of the query's dtype, never an alias of a cache.

    Raises:
        RuntimeError: unsupported dtype or shape, a write past the capacity, caches that overlap
            each other or the inputs, or an input that requires grad.

    Example:
        >>> q = torch.ones(1, 1, 1, 2); cache = torch.zeros(1, 1, 4, 2)
        >>> cached_attention(q, q, q, cache, cache.clone(), position=0)
        tensor([[[[1., 1.]]]])
        >>> cache[0, 0, :, 0]
        tensor([1., 0., 0., 0.])
    """
    if check:
        _warn_zero_one_float(attn_mask)
    op = _ops.cached_attention.device if isinstance(position, Tensor) else _ops.cached_attention
    result: Tensor = op(
        query,
        new_key,
        new_value,
        key_cache,
        value_cache,
        position=position,
        key_mask=key_mask,
        attn_mask=attn_mask,
        window=window,
        scale=scale,
    )
    return result


def _check_zero_one(mask: Tensor) -> None:
    odd = mask[(mask != 0) & (mask != 1)]
    if odd.numel():
        raise ValueError(f"expand_mask: mask must hold only 0 and 1, found {odd[0].item()}")


def _warn_zero_one_float(attn_mask: Tensor | None) -> None:
    if attn_mask is None or not attn_mask.is_floating_point():
        return
    if bool(((attn_mask == 0) | (attn_mask == 1)).all()):
        warnings.warn(
            "attn_mask is a float mask of 0 and 1: it is added to the scores and masks nothing; "
            "pass attn_mask.bool() if 1 means 'may be seen'",
            stacklevel=3,
        )
