"""``KVCache``: a real transformers cache whose keys and values are written in place.

The surprise: ``layer.keys`` and ``layer.values`` are views of one buffer per layer; they are read,
never assigned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from ...kv_cache import KVBuffer
from ..call.packing import Packing

__all__ = ["KVCache", "KVLayer"]


class KVLayer(DynamicLayer):
    """One layer of a ``KVCache``."""

    def __init__(self, max_length: int | None = None, dtype: torch.dtype | None = None) -> None:
        self.buffer = KVBuffer(capacity=max_length, dtype=dtype)
        super().__init__()

    @property
    def keys(self) -> Tensor | None:
        """View ``[batch, kv_heads, length, head_dim]``."""
        return self.buffer.keys

    @keys.setter
    def keys(self, keys: Tensor | None) -> None:
        _refuse(keys)

    @property
    def values(self) -> Tensor | None:
        """View ``[batch, kv_heads, length, value_dim]``."""
        return self.buffer.values

    @values.setter
    def values(self, values: Tensor | None) -> None:
        _refuse(values)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers; the states may have zero tokens."""
        key, _, _ = self.buffer.reserve(key_states, value_states)
        self.dtype, self.device = key.dtype, key.device
        self.is_initialized = True

    def reserve(self, new_key: Tensor, new_value: Tensor) -> tuple[Tensor, Tensor, int]:
        """Room for new tokens: key buffer, value buffer and first free slot (see ``KVBuffer``)."""
        if not self.is_initialized:
            self.lazy_initialization(new_key, new_value)
        return self.buffer.reserve(new_key, new_value)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new keys and values and return all of them, in the dtype of the new ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.buffer.append(key_states, value_states)
        return keys.to(key_states.dtype), values.to(value_states.dtype)

    def get_seq_length(self) -> int:
        """Tokens that are stored."""
        return self.buffer.length

    def reset(self) -> None:
        """Forget every token; the memory stays for the next sequence."""
        self.buffer.clear()

    def crop(self, tokens_to_remove: int) -> None:
        """Remove ``-tokens_to_remove`` tokens; a positive number means what the base class says."""
        if not self.is_initialized:
            return
        # What the number means differs between versions: the base class says it, on views.
        views = DynamicLayer()
        views.keys, views.values, views.is_initialized = self.keys, self.values, True
        views.crop(tokens_to_remove)
        self.buffer.crop(views.keys.shape[2])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the rows ``beam_idx`` of the batch."""
        self.buffer.select(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row of the batch ``repeats`` times."""
        keys = self.keys
        if keys is not None:
            rows = torch.arange(keys.shape[0], device=keys.device)
            self.buffer.select(rows.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows ``indices`` (numbers or booleans) of the batch."""
        keys = self.keys
        if keys is not None:
            rows = torch.arange(keys.shape[0], device=keys.device)
            self.buffer.select(rows[indices])

    def offload(self) -> None:
        """Move the buffers to the CPU."""
        self.buffer.to("cpu")

    def prefetch(self) -> None:
        """Move the buffers back to the device of the layer."""
        if self.is_initialized:
            self.buffer.to(self.device)


class KVCache(Cache):
    """A transformers cache that is preallocated, grows by doubling and is written in place.

    Args:
        max_length: expected number of tokens, prompt and new ones together, allocated at once.
            More tokens are allowed: the buffers then double.
        dtype: storage dtype, e.g. ``torch.bfloat16`` beside a float32 model; ``None`` means the
            model's.
        num_layers: create the layers now (needed for ``early_initialization`` only).

    Example:
        >>> cache = KVCache(max_length=16)
        >>> keys, values = cache.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), layer_idx=0)
        >>> keys.shape, cache.get_seq_length()
        (torch.Size([1, 2, 3, 4]), 3)
    """

    def __init__(
        self,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        num_layers: int | None = None,
    ) -> None:
        new_layer = partial(KVLayer, max_length=max_length, dtype=dtype)
        super().__init__(layer_class_to_replicate=new_layer)
        self.layers = [new_layer() for _ in range(num_layers or 0)]

    @property
    def max_cache_len(self) -> int:
        """-1, no limit; PEFT asks before it hands over a cache of its own with a learned prefix."""
        return -1

    def layer(self, layer_idx: int) -> KVLayer:
        """The layer ``layer_idx``, made when it is not there yet."""
        while len(self.layers) <= layer_idx:
            self.layers.append(self.layer_class_to_replicate())
        return self.layers[layer_idx]

    def reserve(
        self, new_key: Tensor, new_value: Tensor, layer_idx: int
    ) -> tuple[Tensor, Tensor, int]:
        """Room for new tokens: what ``cached_attention`` takes as caches and position.

        Args:
            new_key: ``[batch, kv_heads, queries, head_dim]``.
            new_value: ``[batch, kv_heads, queries, value_dim]``.
            layer_idx: number of the layer.

        Returns:
            Key buffer and value buffer ``[batch, kv_heads, capacity, ...]``, first free slot.
        """
        return self.layer(layer_idx).reserve(new_key, new_value)

    def write_packed(self, key: Tensor, value: Tensor, layer_idx: int, packing: Packing) -> None:
        """Append tokens that lie back to back to their rows; pads become zeros.

        Args:
            key: ``[real tokens, kv_heads, head_dim]``.
            value: ``[real tokens, kv_heads, value_dim]``.
            layer_idx: number of the layer.
            packing: which slots the tokens belong to.

        Raises:
            ValueError: keys or values are not as many as the packing has slots, or as
                ``KVBuffer.reserve``.
        """
        for name, states in (("key", key), ("value", value)):
            if states.shape[0] != packing.slots.shape[0]:
                raise ValueError(
                    f"KVCache: {name} must have {packing.slots.shape[0]} tokens, one for each "
                    f"slot, got {list(states.shape)}"
                )
        # Only sizes, dtype and device count here: no memory is taken.
        like_key, like_value = (
            states.new_empty(()).expand(
                packing.batch, states.shape[1], packing.tokens, states.shape[2]
            )
            for states in (key, value)
        )
        key_cache, value_cache, start = self.reserve(like_key, like_value, layer_idx)
        end = start + packing.tokens
        packing.write_heads(key, key_cache[:, :, start:end])
        packing.write_heads(value, value_cache[:, :, start:end])
        self.advance(packing.tokens, layer_idx)

    def advance(self, queries: int, layer_idx: int) -> None:
        """Count ``queries`` slots after ``reserve`` as filled."""
        self.layer(layer_idx).buffer.advance(queries)


def _refuse(states: Tensor | None) -> None:
    """The base class sets None at first; a tensor would part the views from their buffer."""
    if states is not None:
        raise AttributeError("KVCache owns its buffers: use update, crop, reorder_cache or reset")
