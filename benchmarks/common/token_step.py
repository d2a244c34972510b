"""One token step of attention with a cache, over all layers: ours and two ways of transformers.

The surprise: each turn takes the new token back out of the cache before the next one, outside the
timing, so every turn has the same length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache

import masked_attn

from .oracle import true_attention
from .timing import Contender
from .visibility import Visibility
from .workloads import Layer, Sizes, ragged_lengths

__all__ = ["TokenStep", "attend", "cat", "grouped_steps", "ours", "static", "steps", "truth"]

GENERATED = 28  # tokens after the prompts


@dataclass(frozen=True)
class TokenStep:
    """A step whose new token is number ``length`` of every row.

    Args:
        sizes: shapes, and how many layers there are.
        length: tokens of the longest row, the new one included.
        capacity: slots of a cache that is allocated once.
        lengths: real tokens of each row, padded on the left; None means no padding.
        dtype: of queries, keys and values.
    """

    sizes: Sizes
    length: int
    capacity: int
    lengths: tuple[int, ...] | None = None
    dtype: torch.dtype = torch.float32

    @cached_property
    def seen(self) -> Visibility:
        """What the new token sees."""
        size = self.sizes
        return Visibility(size.batch, 1, self.length, True, self.lengths, size.device)

    @cached_property
    def filled(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer: keys and values before the step."""
        size, past = self.sizes, self.length - 1
        return [
            (self._random(size.kv_heads, past), self._random(size.kv_heads, past)) for _ in self.new
        ]

    @cached_property
    def new(self) -> list[Layer]:
        """For each layer: query, key and value of the new token."""
        size = self.sizes
        heads = (size.heads, size.kv_heads, size.kv_heads)
        return [
            (self._random(heads[0], 1), self._random(heads[1], 1), self._random(heads[2], 1))
            for _ in range(size.layers)
        ]

    @property
    def bytes(self) -> float:
        """Bytes of all visible keys and values, of all layers."""
        return self.sizes.layers * self.seen.key_bytes(self.sizes, self.dtype.itemsize)

    @property
    def sdpa(self) -> dict[str, Any]:
        """Keywords of ``scaled_dot_product_attention`` over the real length."""
        return {**self.seen.sdpa, "enable_gqa": self.sizes.group > 1}

    def _random(self, heads: int, tokens: int) -> Tensor:
        shape = (self.sizes.batch, heads, tokens, self.sizes.head_dim)
        return torch.randn(shape, device=self.sizes.device).to(self.dtype)


def steps(size: Sizes, quick: bool, dtype: torch.dtype = torch.float32) -> dict[str, TokenStep]:
    """Name -> step. Room is what ``generate`` asks for: 64 new tokens, 1024 slots at most."""
    prompt, long = (32, 64) if quick else (512, 1024)
    length, room = prompt + GENERATED, prompt + 64
    ragged = tuple(real + GENERATED for real in ragged_lengths(size.batch, prompt))
    return {
        f"ragged, T={length}": TokenStep(size, length, room, ragged, dtype),
        f"equal, T={length}": TokenStep(size, length, room, dtype=dtype),
        f"equal, T={long}": TokenStep(size, long, long, dtype=dtype),
    }


def grouped_steps(
    size: Sizes, quick: bool, dtype: torch.dtype = torch.float32
) -> dict[str, TokenStep]:
    """Name -> step: the same keys and values for one, four and eight heads of queries each."""
    length = 64 if quick else 2048
    found = {}
    for group in (1, 4, 8):
        grouped = replace(size, heads=size.heads * group, group=group)
        name = f"heads {grouped.heads}/{grouped.kv_heads}, T={length}"
        found[name] = TokenStep(grouped, length, length, dtype=dtype)
    return found


def ours(step: TokenStep) -> Contender:
    """``KVCache`` and ``cached_attention``: append and attend in one call."""
    cache = masked_attn.KVCache(max_length=step.capacity)
    for layer, (keys, values) in enumerate(step.filled):
        cache.update(keys, values, layer)

    def prepare() -> None:
        if cache.get_seq_length() == step.length:
            cache.crop(-1)

    def run() -> Tensor:
        for layer, (query, key, value) in enumerate(step.new):
            keys, values, position = cache.reserve(key, value, layer)
            result = masked_attn.cached_attention(
                query, key, value, keys, values, position=position, key_mask=step.seen.key_mask
            )
            cache.advance(1, layer)
        return result

    return Contender(run, prepare)


def cat(step: TokenStep) -> Contender:
    """``DynamicCache``, which concatenates, and SDPA: what ``generate`` does by default."""
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(step.filled):
        cache.update(keys.clone(), values.clone(), layer)

    def prepare() -> None:
        if cache.get_seq_length() == step.length:
            for layer in cache.layers:  # contiguous, as the previous step of a model leaves them
                layer.keys = layer.keys[:, :, :-1].contiguous()
                layer.values = layer.values[:, :, :-1].contiguous()

    def run() -> Tensor:
        for layer, (query, key, value) in enumerate(step.new):
            keys, values = cache.update(key, value, layer)
            result = scaled_dot_product_attention(query, keys, values, **step.sdpa)
        return result

    return Contender(run, prepare)


def static(step: TokenStep) -> Contender:
    """What ``StaticCache`` does: write into a buffer, attend over all of it with a mask."""
    size = step.sizes
    shape = (size.layers, 2, size.batch, size.kv_heads, step.capacity, size.head_dim)
    buffers = torch.zeros(shape, dtype=step.dtype, device=size.device)
    for buffer, pair in zip(buffers, step.filled, strict=True):
        for half, states in zip(buffer, pair, strict=True):
            half[:, :, : step.length - 1] = states
    position = torch.tensor([step.length - 1], device=size.device)
    past = step.seen.dense
    future = past.new_zeros(1, 1, 1, step.capacity - step.length)
    mask = torch.cat([past, future.expand(past.shape[0], -1, -1, -1)], dim=-1)

    def run() -> Tensor:
        for (keys, values), (query, key, value) in zip(buffers, step.new, strict=True):
            keys.index_copy_(2, position, key)
            values.index_copy_(2, position, value)
            result = scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, enable_gqa=size.group > 1
            )
        return result

    return Contender(run)


def attend(step: TokenStep) -> Contender:
    """SDPA alone, over keys and values that are all there: nothing is appended."""
    rows = [
        (torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2))
        for (keys, values), (_, key, value) in zip(step.filled, step.new, strict=True)
    ]

    def run() -> Tensor:
        for (keys, values), (query, _, _) in zip(rows, step.new, strict=True):
            result = scaled_dot_product_attention(query, keys, values, **step.sdpa)
        return result

    return Contender(run)


def truth(step: TokenStep) -> Tensor:
    """What the last layer gives: ``[batch, heads, 1, head_dim]`` float64."""
    (keys, values), (query, key, value) = step.filled[-1], step.new[-1]
    layer = (query, torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2))
    return true_attention(step.seen, layer)
