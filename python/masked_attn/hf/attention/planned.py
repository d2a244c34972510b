"""Attention of one layer after the plan of its forward: packed, cached, or over all keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ...functional import cached_attention, packed_attention
from ..caches.kv_cache import KVCache
from ..caches.static import self_attention_cache, static_layer
from ..call.packing import Packing
from ..call.plan import Plan
from ..call.visibility import Visibility, wants_grad
from ..instance.attention_config import AttentionConfig
from ..trace.trace import CACHED, PACKED, STOCK
from .layer import Layer
from .paths import attend, attend_in_sequences
from .stock import stock_attention

__all__ = ["attend_as_planned", "attend_to_encoder", "layers_follow", "running_plan"]

_running: ContextVar[Plan | None] = ContextVar("masked_attn_plan", default=None)


@contextmanager
def layers_follow(plan: Plan | None) -> Iterator[None]:
    """Attention inside the block that is handed no keyword follows ``plan``.

    That is cross attention, and all of some families. A compiled graph can't hold the variable, so
    stock code runs there.
    """
    if torch.compiler.is_compiling():
        yield
        return
    token = _running.set(plan)
    try:
        yield
    finally:
        _running.reset(token)


def running_plan() -> Plan | None:
    """The plan that attention follows now where no keyword says it, in this thread."""
    return _running.get()


def attend_to_encoder(
    layer: Layer, config: AttentionConfig, query: Tensor, key: Tensor, value: Tensor, plan: Plan
) -> tuple[Tensor, Tensor | None]:
    """Cross attention: ``[batch, queries, heads, value_dim]`` and perhaps the weights."""
    assert plan.encoder is not None
    seen = plan.encoder.on(query.device)
    path, out, weights = attend(layer, query, key, value, seen, textbook=plan.textbook)
    plan.trace.cross_paths[config.number] = path
    _tell_why(plan, config.number, path, wants_grad(query, key, value))
    return out, weights


def attend_as_planned(
    layer: Layer,
    config: AttentionConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    plan: Plan,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Self-attention: ``[batch, queries, heads, value_dim]`` and perhaps the weights.

    Args:
        layer: the layer.
        config: of the attention module.
        query: ``[batch, heads, queries, head_dim]``, or ``[1, heads, kept tokens, head_dim]``.
        key: the new keys alone.
        value: the new values alone.
        mask: what the layer was handed: ours is empty.
        plan: of the forward.
        kwargs: what the layer says besides, for stock code.
    """
    cache, number = self_attention_cache(plan.cache), config.number
    if layer.window is not None:
        plan.trace.windows.add(layer.window)
    # Any other mask was put there by somebody who wants it to count.
    if mask is None or mask.numel() > 0:
        plan.trace.paths[number] = STOCK
        plan.trace.left_to_stock(number, "its mask was replaced")
        if cache is not None:
            key, value = cache.update(key, value, layer_number(layer, config))
        said = {**layer.said(), **kwargs}
        return stock_attention(layer.module, config, query, key, value, mask, **said)
    query, key, value = _of_one_dtype(query, key, value)
    if plan.sequences is not None:
        path, out, weights = _sequential(layer, config, query, key, value, cache, plan)
    elif plan.packing is not None:
        path, out, weights = _packed(layer, config, query, key, value, cache, plan)
    else:
        path, out, weights = _padded(layer, config, query, key, value, cache, plan)
    plan.trace.paths[number] = path
    return out, weights


def _of_one_dtype(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All in the dtype of autocast where rotary positions left only the values in it.

    Attention rounds them to it in any case; a cache takes keys and values of one dtype.
    """
    kind = query.device.type
    if key.dtype == value.dtype or not torch.is_autocast_enabled(kind):
        return query, key, value
    dtype = torch.get_autocast_dtype(kind)
    return query.to(dtype), key.to(dtype), value.to(dtype)


def layer_number(layer: Layer, config: AttentionConfig) -> int:
    """The number under which the layer's keys and values are stored."""
    number: int | None = getattr(layer.module, "layer_idx", None)
    return config.number if number is None else number


def _packed(
    layer: Layer,
    config: AttentionConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cache: Cache | None,
    plan: Plan,
) -> tuple[str, Tensor, Tensor | None]:
    """``_padded`` for ``[1, heads, kept tokens, head_dim]``: the rows lie back to back."""
    assert plan.packing is not None
    packing = plan.packing.on(query.device)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    if (
        packing.filled
        or packing.has_pads
        # A window counts slots: holes must be there.
        or (layer.window is not None and packing.runs is None)
        or plan.static
        or wants_grad(query, key, value, layer.sinks)
        or layer.dropout > 0.0
    ):
        query, key, value = (packing.unpack_heads(states) for states in (query, key, value))
        path, out, weights = _padded(layer, config, query, key, value, cache, plan)
        return path, packing.pack(out), weights
    if cache is not None:
        _store_packed(cache, key, value, layer_number(layer, config), packing)
    out = packed_attention(
        query,
        key,
        value,
        packing.cu_seqlens,
        packing.longest,
        causal=plan.seen.causal,
        window=layer.window,
        **layer.scores(),
    )
    return PACKED, out[None], None


def _sequential(
    layer: Layer,
    config: AttentionConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cache: Cache | None,
    plan: Plan,
) -> tuple[str, Tensor, Tensor | None]:
    """``_padded`` for ``[1, heads, tokens, head_dim]``, several sequences in the one row."""
    assert plan.sequences is not None
    if cache is not None:
        cache.update(key, value, layer_number(layer, config))
    result = attend_in_sequences(
        layer, query, key, value, plan.sequences, causal=plan.seen.causal, textbook=plan.textbook
    )
    _tell_why(plan, config.number, result[0], wants_grad(query, key, value))
    return result


def _store_packed(cache: Cache, key: Tensor, value: Tensor, number: int, packing: Packing) -> None:
    if isinstance(cache, KVCache):
        cache.write_packed(key, value, number, packing)
    else:
        cache.update(packing.unpack_heads(key), packing.unpack_heads(value), number)


def _padded(
    layer: Layer,
    config: AttentionConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cache: Cache | None,
    plan: Plan,
) -> tuple[str, Tensor, Tensor | None]:
    """The path, ``[batch, queries, heads, value_dim]``, and the weights if they are asked for."""
    number = layer_number(layer, config)
    seen = plan.seen.on(query.device)
    grad = wants_grad(query, key, value, layer.sinks) or _cache_wants_grad(cache, number)
    unrounded = False
    if cache is not None:
        unrounded = _rounds_first_keys(cache, number, key)
        plain = not plan.textbook and not grad and layer.dropout == 0.0
        # cached_attention is always causal; one query sees every key either way.
        if plain and not unrounded and (seen.causal or query.shape[2] == 1):
            out = _in_place(layer, number, query, key, value, cache, seen, plan.static)
            if out is not None:
                return CACHED, out.transpose(1, 2), None
    window = layer.window
    if plan.static:
        assert cache is not None
        static = static_layer(cache, number, key, value)
        seen = seen.in_layer(window, seen.keys)
        seen = seen.from_position(static.cumulative_length, query.shape[2])
    if cache is not None:
        stored = cache.update(key, value, number)
        key, value = (key, value) if unrounded else stored
    seen = seen.in_layer(window, key.shape[2])
    result = attend(layer, query, key, value, seen, textbook=plan.textbook, grad=grad)
    _tell_why(plan, config.number, result[0], grad)
    return result


def _tell_why(plan: Plan, number: int, path: str, grad: bool) -> None:
    if path == STOCK and grad:
        plan.trace.left_to_stock(number, "gradients are recorded inside the layers")
    elif path == STOCK:
        plan.trace.left_to_stock(number, "attention weights are dropped")


def _in_place(
    layer: Layer,
    number: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cache: Cache,
    seen: Visibility,
    static: bool,
) -> Tensor | None:
    """Attention that writes the cache itself; None for a cache that it cannot take."""
    window = None if seen.says_all else layer.window
    arguments: dict[str, Any] = {
        "key_mask": seen.key_mask,
        "attn_mask": seen.attn_mask,
        "window": window,
        **layer.scores(),
    }
    if static:
        slots = static_layer(cache, number, key, value)
        if not _stores(slots.keys.dtype, query):
            return None
        position = slots.cumulative_length.reshape(())
        buffers = slots.keys, slots.values
        out = cached_attention(query, key, value, *buffers, position=position, **arguments)
        slots.cumulative_length.add_(query.shape[2])
        return out
    if not isinstance(cache, KVCache):
        return None
    # `update` converts what the operator does not.
    if not _stores(cache.layer(number).buffer.storage_dtype(query.dtype), query):
        return None
    key_cache, value_cache, filled = cache.reserve(key, value, number)
    out = cached_attention(
        query,
        key,
        value,
        key_cache,
        value_cache,
        position=filled,
        **arguments,
    )
    cache.advance(query.shape[2], number)
    return out


def _stores(dtype: torch.dtype, query: Tensor) -> bool:
    """Whether ``cached_attention`` takes caches of ``dtype`` beside this query."""
    smaller = query.dtype == torch.float32 and dtype in (torch.float16, torch.bfloat16)
    return smaller or dtype == query.dtype


def _rounds_first_keys(cache: Cache | None, number: int, key: Tensor) -> bool:
    """Whether these are the first keys of a ``KVCache`` of another dtype.

    Attention then takes them unrounded, as it does for a prompt without its pads.
    """
    if not isinstance(cache, KVCache):
        return False
    buffer = cache.layer(number).buffer
    return buffer.length == 0 and buffer.storage_dtype(key.dtype) != key.dtype


def _cache_wants_grad(cache: Cache | None, number: int) -> bool:
    if not torch.is_grad_enabled() or cache is None or number >= len(cache.layers):
        return False
    return wants_grad(getattr(cache.layers[number], "keys", None))
