"""A step of decoding over a cache of its own for each row: ``flash_attn_with_kvcache``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._attend import attend, attend_one_query
from ._cache import Cache, Lengths
from ._checks import has_shape, refuse, refuse_gradient
from ._how import Asked, How, how_of
from ._rotary import Rotary

__all__ = ["flash_attn_with_kvcache"]

FUNCTION = "flash_attn_with_kvcache"


def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    rotary_cos: Tensor | None = None,
    rotary_sin: Tensor | None = None,
    cache_seqlens: int | Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cache_leftpad: Tensor | None = None,
    block_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor | None]:
    """Write new keys and values into the caches, then attend, with the arguments of flash-attn 2.

    Args:
        q: ``[batch, seqlen_q, heads, head_dim]``, float32, float64, float16 or bfloat16.
        k_cache: ``[batch_cache, seqlen_cache, heads_k, head_dim]``, or beside a ``block_table``
            ``[blocks, block_size, heads_k, head_dim]`` with blocks of any size. Of the dtype of
            ``q``, or float16/bfloat16 beside a float32 ``q``.
        v_cache: as ``k_cache``, of ``value_dim``.
        k: ``[batch, seqlen_new, heads_k, head_dim]``: written in place behind the filled slots.
        v: as ``k``, of ``value_dim``.
        rotary_cos: ``[positions, rotary_dim / 2]``: new keys and the queries are turned by it, from
            position ``cache_seqlens`` on. Without ``causal`` or a window all queries stand at
            ``cache_seqlens``. Only beside ``k`` and ``v``.
        rotary_sin: as ``rotary_cos``.
        cache_seqlens: slots that are filled: an int, or ``[batch]`` int32 or int64. ``None`` means
            all of them, without ``k`` and ``v``.
        cache_batch_idx: ``[batch]``: which row of the caches belongs to a row of ``q``.
        cache_leftpad: ``[batch]``: the first slot of each row that may be seen; 0 without it.
        block_table: ``[batch, blocks_of_a_row]``: the blocks of each row. What is seen is copied
            together for the call.
        softmax_scale: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        causal: the last query sees the last key of its row, and so on backwards.
        window_size: as in ``flash_attn_func``.
        softcap: as in ``flash_attn_func``.
        rotary_interleaved: dimensions 0 and 1 turn together, 2 and 3, and so on; otherwise 0 and
            ``rotary_dim / 2``, and so on.
        alibi_slopes: ``[heads]`` or ``[batch, heads]``, as in ``flash_attn_func``.
        num_splits: accepted; it says how the work is cut, not what comes out.
        return_softmax_lse: also return the log-sum-exp.

    Returns:
        ``[batch, seqlen_q, heads, value_dim]`` of the dtype of ``q``; exactly 0 for a query that
        sees no key. With ``return_softmax_lse`` also ``[batch, heads, seqlen_q]``, float32 (float64
        for float64), ``-inf`` for a query that sees no key.

    Raises:
        RuntimeError: unsupported dtype, device, shape or value, or an argument that requires grad;
            on a CPU also a cache that is too short, or a wrong index, before anything is written.
            On CUDA torch's own check of indices stops the program instead.

    Example:
        >>> import torch
        >>> cache = torch.zeros(2, 4, 1, 8)
        >>> q = torch.ones(2, 1, 1, 8)
        >>> filled = torch.tensor([0, 2], dtype=torch.int32)
        >>> out = flash_attn_with_kvcache(q, cache, cache.clone(), q, q, cache_seqlens=filled)
        >>> cache[..., 0, 0]
        tensor([[1., 0., 0., 0.],
                [0., 0., 1., 0.]])
    """
    refuse_gradient(
        FUNCTION, q=q, k_cache=k_cache, v_cache=v_cache, k=k, v=v, alibi_slopes=alibi_slopes
    )
    has_shape(FUNCTION, "q", q, "[batch, seqlen_q, heads, head_dim]", (None,) * 4)
    batch, queries, heads, _ = q.shape
    asked = Asked(softmax_scale, causal, window_size, softcap, alibi_slopes)
    how = how_of(FUNCTION, asked, batch=batch, heads=heads)
    cache = Cache.of(FUNCTION, q, k_cache, v_cache, cache_batch_idx, block_table)
    new = _new_tokens(q, k, v, cache)
    if new > cache.capacity:
        refuse(FUNCTION, f"k has {new} tokens, but a row of the cache has {cache.capacity} slots")
    if cache_seqlens is None:
        if k is not None:
            refuse(FUNCTION, "k and v need cache_seqlens, which says where they are written")
        cache_seqlens = cache.capacity
    filled = Lengths.read(FUNCTION, "cache_seqlens", cache_seqlens, q, cache.capacity - new)
    first = 0 if cache_leftpad is None else cache_leftpad
    pads = Lengths.read(FUNCTION, "cache_leftpad", first, q, cache.capacity)
    if rotary_cos is not None or rotary_sin is not None:
        if k is None or rotary_cos is None or rotary_sin is None:
            refuse(FUNCTION, "rotary_cos and rotary_sin come together, and only beside k and v")
        else:
            rotary = Rotary(FUNCTION, rotary_cos, rotary_sin, rotary_interleaved, q)
            local = how.left is not None or how.right is not None
            own = filled.positions(queries if local else 1)
            q, k = rotary.turn(q, own), rotary.turn(k, filled.positions(new))
    if k is not None and v is not None:
        cache.write(k, v, filled)
    result = _attend_cache(q, cache, filled.plus(new), pads, how, return_softmax_lse)
    return result if return_softmax_lse else result[0]


def _new_tokens(q: Tensor, k: Tensor | None, v: Tensor | None, cache: Cache) -> int:
    """How many there are of each row; what is wrong with them is said before they are written."""
    if cache.keys.dtype != cache.values.dtype:
        refuse(FUNCTION, f"v_cache must be {cache.keys.dtype} as k_cache, got {cache.values.dtype}")
    halves = (torch.float16, torch.bfloat16)
    if cache.keys.dtype != q.dtype and not (
        q.dtype == torch.float32 and cache.keys.dtype in halves
    ):
        refuse(
            FUNCTION,
            f"k_cache must be {q.dtype} as q, or half of float32, got {cache.keys.dtype}",
        )
    for name, tensor in (("k_cache", cache.keys), ("v_cache", cache.values)):
        if tensor.device != q.device:
            refuse(FUNCTION, f"{name} must be on {q.device}, the device of q, got {tensor.device}")
    heads_k = cache.keys.shape[2]
    if heads_k == 0 or q.shape[2] % heads_k != 0:
        refuse(FUNCTION, f"q has {q.shape[2]} heads, no multiple of the {heads_k} of k_cache")
    if k is None or v is None:
        if k is not v:
            refuse(FUNCTION, "k and v must be given together")
        return 0
    # A graph that torch.compile makes cannot ask where memory is.
    if not torch.compiler.is_compiling() and cache.keys.is_set_to(cache.values):
        refuse(FUNCTION, "k_cache and v_cache are the same memory: one would overwrite the other")
    for name, tensor, size in (("k", k, q.shape[3]), ("v", v, cache.values.shape[3])):
        layout = f"[batch, seqlen_new, heads_k, {'head_dim' if name == 'k' else 'value_dim'}]"
        has_shape(FUNCTION, name, tensor, layout, (q.shape[0], k.shape[1], heads_k, size))
        if tensor.dtype != q.dtype or tensor.device != q.device:
            refuse(
                FUNCTION,
                f"{name} must be {q.dtype} on {q.device} as q, got {tensor.dtype} on "
                f"{tensor.device}",
            )
    return k.shape[1]


def _attend_cache(
    q: Tensor, cache: Cache, filled: Lengths, pads: Lengths, how: How, return_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """One call for all rows where the operator can say which keys each sees; else one for each."""
    whole = pads.same == 0
    if cache.rows is None and filled.same is not None:
        keys, values = cache.together(filled)
        slots = torch.arange(keys.shape[1], device=q.device)
        key_mask = None if whole else slots >= pads.rows()[:, None]
        return attend(q, keys, values, how, key_mask=key_mask, return_lse=return_lse)
    if cache.rows is None and q.shape[1] == 1:
        keys, values = cache.together(filled)
        begin, end = pads.rows(), filled.rows()
        return attend_one_query(q, keys, values, begin, end, how, return_lse=return_lse)
    keys, values = cache.together(filled) if cache.rows is None else (cache.keys, cache.values)
    rows = range(cache.batch) if cache.rows is None else cache.rows.tolist()
    ends, begins = filled.rows().tolist(), pads.rows().tolist()
    if any(end > cache.capacity for end in ends) or any(begin < 0 for begin in begins):
        # Of a GPU, where nothing was looked at before.
        refuse(FUNCTION, f"cache_seqlens or cache_leftpad is outside of [0, {cache.capacity}]")
    outs, sums = [], []
    for row, (own, begin, end) in enumerate(zip(rows, begins, ends, strict=True)):
        seen = (slice(own, own + 1), slice(begin, max(begin, end)))
        out, lse = attend(
            q[row : row + 1], keys[seen], values[seen], how.of_row(row), return_lse=return_lse
        )
        outs.append(out)
        sums.append(lse)
    if not outs:
        return attend(q, keys[:0], values[:0], how, return_lse=return_lse)
    return torch.cat(outs), torch.cat([s for s in sums if s is not None]) if return_lse else None
