"""``KVCache``: a real transformers cache whose keys and values are written in place.

The surprise: ``layer.keys`` and ``layer.values`` are views of one buffer per layer. What is
assigned to them is only read, and copied into a buffer by the next write.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from ...kv_cache import KVBuffer
from ..call.packing import Packing

__all__ = ["KVCache", "KVLayer"]


class KVLayer(DynamicLayer):
    """One layer of a ``KVCache``, used like a ``DynamicLayer``.

    ``keys`` and ``values`` can be assigned, one after the other, e.g. by cache compression: other
    tokens, rows or heads, views of themselves, or None. The next write copies what was assigned
    into memory of the layer's own, before which the two must fit each other; from then on the layer
    is written in place again. Neither a tensor that was assigned nor a view that was taken before
    an assignment is written to. Tensors of another dtype are held in the dtype of the layer;
    gradients flow through them. A layer that was given tensors is initialized, where a
    ``DynamicLayer`` would forget them at its first ``update``.
    """

    is_initialized: bool

    def __init__(self, max_length: int | None = None, dtype: torch.dtype | None = None) -> None:
        self.buffer = KVBuffer(capacity=max_length, dtype=dtype)
        super().__init__()

    @property
    def keys(self) -> Tensor | None:
        """View ``[batch, kv_heads, length, head_dim]``; None before the first token."""
        return self.buffer.keys if self.is_initialized else None

    @keys.setter
    def keys(self, keys: Tensor | None) -> None:
        self.buffer.keys = keys
        self._initialize_with(keys)

    @property
    def values(self) -> Tensor | None:
        """View ``[batch, kv_heads, length, value_dim]``; None before the first token."""
        return self.buffer.values if self.is_initialized else None

    @values.setter
    def values(self, values: Tensor | None) -> None:
        self.buffer.values = values
        self._initialize_with(values)

    def _initialize_with(self, states: Tensor | None) -> None:
        # The base class sets None before it sets ``is_initialized``.
        if states is not None and not self.is_initialized:
            self.dtype, self.device = states.dtype, states.device
            self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers; the states may have zero tokens."""
        self.buffer.clear()
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
        return self.buffer.length if self.is_initialized else 0

    def reset(self) -> None:
        """Forget every token; the memory stays for the next sequence."""
        self.buffer.clear()
        self.is_initialized = False

    def crop(self, tokens_to_remove: int) -> None:
        """Remove ``-tokens_to_remove`` tokens; a positive number means what the base class says."""
        keys, values = self.keys, self.values
        if keys is None or keys.ndim != 4:  # an empty tensor that was assigned
            return
        # What the number means differs between versions: the base class says it, on views.
        views = DynamicLayer()
        views.keys, views.values, views.is_initialized = keys, values, True
        views.crop(tokens_to_remove)
        if values is None or values.shape[2] == keys.shape[2]:
            self.buffer.crop(views.keys.shape[2])
        else:  # one of them was assigned, the other will be
            self.keys, self.values = views.keys, views.values

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


class KVCache(DynamicCache):
    """A ``DynamicCache`` that is preallocated, grows by doubling and is written in place.

    It can be looped over, copied, handed to ``DynamicCache(past)`` and its layers assigned like any
    ``DynamicCache`` (see ``KVLayer``). Windows are for masks: its layers keep every token.

    Args:
        past: keys and values to begin with, copied: a ``DynamicCache`` or ``KVCache``, or for each
            layer a tuple of keys ``[batch, kv_heads, tokens, head_dim]``, values and perhaps the
            layer's window. None twice means a layer without tokens.
        max_length: expected number of tokens, prompt and new ones together, allocated at once.
            More tokens are allowed: the buffers then double.
        dtype: storage dtype, e.g. ``torch.bfloat16`` beside a float32 model; ``None`` means the
            model's.
        num_layers: create the layers now (needed for ``early_initialization`` only).

    Raises:
        TypeError: ``past`` holds no layers.
        ValueError: a layer of ``past`` has forgotten tokens that were outside of its window, or
            keys and values do not fit each other.

    Example:
        >>> cache = KVCache(max_length=16)
        >>> keys, values = cache.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), layer_idx=0)
        >>> keys.shape, cache.get_seq_length()
        (torch.Size([1, 2, 3, 4]), 3)
    """

    def __init__(
        self,
        past: Iterable[tuple[Tensor | None, ...]] | None = None,
        *,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        num_layers: int | None = None,
    ) -> None:
        if isinstance(past, (Tensor, str)) or not isinstance(past, (Iterable, type(None))):
            raise TypeError(
                "KVCache: past must be a cache or the keys and values of its layers, got "
                f"{type(past).__name__}; the expected number of tokens is max_length="
            )
        new_layer = partial(KVLayer, max_length=max_length, dtype=dtype)
        # Not that of DynamicCache, which takes no layers but its own.
        Cache.__init__(self, layer_class_to_replicate=new_layer)
        self.layers = [new_layer() for _ in range(num_layers or 0)]
        for layer_idx, states in enumerate(past or ()):
            self._take(past, layer_idx, *states[:3])

    def _take(
        self,
        past: Any,
        layer_idx: int,
        keys: Tensor | None,
        values: Tensor | None,
        window: Tensor | None = None,
    ) -> None:
        """Copy what a layer of ``past`` holds."""
        layer = self.layer(layer_idx)
        if keys is None or values is None:
            return
        if isinstance(past, Cache):
            whole = past.get_seq_length(layer_idx) == keys.shape[-2]
        else:
            whole = window is None or keys.shape[-2] < int(window.max()) - 1
        if not whole:
            raise ValueError(
                f"KVCache: layer {layer_idx} of past may have forgotten tokens; it holds the last "
                f"{keys.shape[-2]}"
            )
        # Where gradients are recorded `update` would hold the tensors themselves.
        copies = (states.clone() if states.requires_grad else states for states in (keys, values))
        layer.update(*copies)

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
