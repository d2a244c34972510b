"""A decode step: write the cache, then attend."""

from __future__ import annotations

from torch import Tensor

from ._checks import warn_zero_one_float
from ._ops import ops

__all__ = ["cached_attention"]


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
    softcap: float | None = None,
    sinks: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
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
        softcap: as in ``masked_attention``.
        sinks: ``[heads]``, as in ``masked_attention``.
        alibi_slopes: ``[heads]`` or ``[batch, heads]``, as in ``masked_attention``; query ``i``
            stands at slot ``position + i``.
        check: warn when a float ``attn_mask`` holds only 0 and 1 (probably meant as boolean).

    Returns:
        ``[batch, heads, queries, value_dim]`` of the query's dtype, never an alias of a cache.

    Raises:
        RuntimeError: unsupported dtype or shape, a ``softcap`` that is not finite and above 0, a
            write past the capacity, caches that overlap each other or the inputs, or an input that
            requires grad.

    Example:
        >>> import torch
        >>> q = torch.ones(1, 1, 1, 2); cache = torch.zeros(1, 1, 4, 2)
        >>> cached_attention(q, q, q, cache, cache.clone(), position=0)
        tensor([[[[1., 1.]]]])
        >>> cache[0, 0, :, 0]
        tensor([1., 0., 0., 0.])
    """
    if check:
        warn_zero_one_float(attn_mask)
    op = ops.cached_attention.device if isinstance(position, Tensor) else ops.cached_attention
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
        softcap=softcap,
        sinks=sinks,
        alibi_slopes=alibi_slopes,
    )
    return result
