"""The static cache of transformers, which ``cached_attention`` writes in place like a ``KVCache``.

The surprise: its layers count their tokens in a tensor on the device. It is handed on unread, so a
step neither waits for the device nor forgets its position in a captured graph.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, EncoderDecoderCache, StaticLayer

__all__ = ["is_static", "self_attention_cache", "static_layer"]


def self_attention_cache(cache: Cache | None) -> Cache | None:
    """The part of ``cache`` that self-attention uses."""
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


def is_static(cache: Any) -> bool:
    """Whether every layer is a plain buffer of fixed size: no window, no offloading."""
    if not isinstance(cache, Cache) or getattr(cache, "offloading", False):
        return False
    return bool(cache.layers) and all(type(layer) is StaticLayer for layer in cache.layers)


def static_layer(cache: Cache, layer_idx: int, key: Tensor, value: Tensor) -> StaticLayer:
    """The layer ``layer_idx``, with its memory; ``cumulative_length`` is on the device."""
    layer = cache.layers[layer_idx]
    if not layer.is_initialized:
        layer.lazy_initialization(key, value)
    return layer
