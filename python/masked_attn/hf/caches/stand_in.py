"""The cache that the layers of a patched model are handed: it only says how long the real one is.

Layers put their keys and values into a cache before they ask for attention. Here both come back as
they are, and the attention function writes the real cache, in place and without pads if it can.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, EncoderDecoderCache

__all__ = ["StandInCache", "stand_in_for"]


class StandInCache(Cache):
    """A cache that keeps nothing.

    Args:
        real: the cache that the attention function writes.
    """

    def __init__(self, real: Cache) -> None:
        self.real = real
        self.layers = real.layers
        self.layer_class_to_replicate = None
        self.offloading = False

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The new keys and values alone: attention adds those that are stored."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens in the real cache."""
        length: int = self.real.get_seq_length(layer_idx)
        return length


def stand_in_for(cache: Cache) -> Cache:
    """What layers get in place of ``cache``; cross attention keeps the real part of it."""
    if not isinstance(cache, EncoderDecoderCache):
        return StandInCache(cache)
    both = EncoderDecoderCache(
        StandInCache(cache.self_attention_cache), cache.cross_attention_cache
    )
    both.is_updated = cache.is_updated
    return both
