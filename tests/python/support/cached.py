"""Caches for ``cached_attention``: inputs with some slots filled, and the expected result."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from masked_attn import cached_attention
from support import seeds
from support.accuracy import assert_attention_accurate, assert_same_bits
from support.oracle import Masks


@dataclass
class Step:
    """One call: ``position`` slots are filled, ``queries`` more are written."""

    query: Tensor
    new_key: Tensor
    new_value: Tensor
    key_cache: Tensor
    value_cache: Tensor
    position: int
    masks: Masks

    @property
    def end(self) -> int:
        return self.position + self.query.shape[2]

    @property
    def capacity(self) -> int:
        return self.key_cache.shape[2]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.query, self.new_key, self.new_value, self.key_cache, self.value_cache

    def call(self, **changes: Any) -> Tensor:
        kwargs = {
            "position": self.position,
            "key_mask": self.masks.key_mask,
            "attn_mask": self.masks.attn_mask,
            "window": self.masks.window,
            **self.masks.extra,
        }
        return cached_attention(*self.tensors(), **{**kwargs, **changes})

    def call_device(self, position: Tensor | None = None, **changes: Any) -> Tensor:
        """The overload whose position lives on the device: masks are as long as the capacity."""
        if position is None:
            position = torch.tensor(self.position, device=self.query.device)
        stretched = {
            "key_mask": stretch(self.masks.key_mask, self.end, self.capacity),
            "attn_mask": stretch(self.masks.attn_mask, self.end, self.capacity),
        }
        return self.call(position=position, **{**stretched, **changes})

    def clone(self) -> Step:
        return Step(*(copy_strided(t) for t in self.tensors()), self.position, self.masks)

    def written(self) -> tuple[Tensor, Tensor]:
        """What the caches must hold after the call."""
        caches = []
        for cache, new in ((self.key_cache, self.new_key), (self.value_cache, self.new_value)):
            cache = cache.clone()
            cache[:, :, self.position : self.end] = new.to(cache.dtype)
            caches.append(cache)
        return caches[0], caches[1]


def stretch(mask: Tensor | None, end: int, capacity: int) -> Tensor | None:
    """Lengthens the last dimension with True or 0: the slots beyond must be unseen all the same."""
    if mask is None or mask.shape[-1] != end:
        return mask
    fill = True if mask.dtype == torch.bool else 0.0
    more = mask.new_full((*mask.shape[:-1], capacity - mask.shape[-1]), fill)
    return torch.cat([mask, more], dim=-1)


def copy_strided(tensor: Tensor) -> Tensor:
    copy = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(tensor)


def make_step(
    *,
    batch: int = 2,
    heads: tuple[int, int] = (2, 2),
    queries: int = 1,
    position: int = 20,
    capacity: int | None = None,
    dims: tuple[int, int] = (16, 16),
    dtype: torch.dtype = torch.float32,
    cache_dtype: torch.dtype | None = None,
    masks: Masks | None = None,
    garbage: float = math.nan,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Step:
    """Filled slots ~ N(0, 1); slots not yet written hold ``garbage``. Masks are moved."""
    seeds.start(seed)
    capacity = position + queries + 5 if capacity is None else capacity
    cache_dtype = cache_dtype or dtype
    caches, news = [], []
    for dim in dims:
        cache = torch.randn(batch, heads[1], capacity, dim).to(cache_dtype)
        cache[:, :, position:] = garbage
        caches.append(cache.to(device))
        news.append(torch.randn(batch, heads[1], queries, dim).to(device, dtype))
    query = torch.randn(batch, heads[0], queries, dims[0]).to(device, dtype)
    return Step(query, *news, *caches, position, (masks or Masks()).to(device))


def check_step(step: Step, scale: float | None = None) -> Tensor:
    """Result by the oracle, caches by the bit, both overloads alike, nothing aliased."""
    key_cache, value_cache = step.written()
    on_device = step.clone()
    out = step.call(scale=scale)
    assert_same_bits(step.key_cache, key_cache, "key_cache")
    assert_same_bits(step.value_cache, value_cache, "value_cache")
    masks = replace(step.masks, causal=True)
    seen = key_cache[:, :, : step.end], value_cache[:, :, : step.end]
    assert_attention_accurate(out, None, step.query, *seen, masks, scale)
    assert_same_bits(on_device.call_device(scale=scale), out, "position on the device")
    assert_same_bits(on_device.key_cache, key_cache, "key_cache, position on the device")
    assert_same_bits(on_device.value_cache, value_cache, "value_cache, position on the device")
    assert out.untyped_storage().data_ptr() not in {
        t.untyped_storage().data_ptr() for t in step.tensors()
    }
    return out
