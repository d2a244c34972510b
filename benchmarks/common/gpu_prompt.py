"""What else attends to a prompt on a GPU: SDPA by each backend, and packed rows without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad

from . import prompt
from .timing import Contender
from .visibility import Visibility
from .workloads import Layer

__all__ = ["gpu_rivals"]

MATH, EFFICIENT = SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION
FLASH, CUDNN = SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION
BACKENDS = {
    "SDPA, cuDNN off": [FLASH, EFFICIENT, MATH],
    "SDPA math": [MATH],
    "SDPA efficient": [EFFICIENT],
    "SDPA flash": [FLASH],
    "SDPA cuDNN": [CUDNN],
}


def gpu_rivals(seen: Visibility, layers: list[Layer]) -> dict[str, Contender | str]:
    """Name -> what to time, or why it can't run. Backends get a mask only where they need one."""
    found: dict[str, Contender | str] = {
        name: _with_backends(prompt.over_layers(prompt.sdpa(seen), layers), backends)
        for name, backends in BACKENDS.items()
    }
    packing = Packing(seen)
    packed = [packing.pack(layer) for layer in layers]
    found["varlen_attn of torch, packed"] = _torch_varlen(packing, packed)
    found["flash_attn varlen, packed"] = _flash_attn(packing, packed)
    return found


def _with_backends(contender: Contender, backends: list[SDPBackend]) -> Contender:
    def run() -> Tensor:
        with sdpa_kernel(backends):
            return contender.run()

    return replace(contender, run=run)


@dataclass(frozen=True)
class Packing:
    """The real tokens of all rows, one row after the other."""

    seen: Visibility

    @cached_property
    def offsets(self) -> Tensor:
        """``[batch + 1]`` int32: where each row starts, and where the last one ends."""
        lengths = self.seen.real_queries.sum(-1)
        return pad(lengths.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.seen.real_queries.sum(-1).max())

    def pack(self, layer: Layer) -> Layer:
        """``[batch, heads, tokens, head_dim]`` -> ``[real tokens, heads, head_dim]``."""
        query, key, value = (tensor.transpose(1, 2)[self.seen.real_queries] for tensor in layer)
        return query, key, value

    def unpack(self, result: Tensor) -> Tensor:
        """The other way; pads get 0."""
        padded = result.new_zeros(*self.seen.real_queries.shape, *result.shape[1:])
        padded[self.seen.real_queries] = result
        return padded.transpose(1, 2)


def _torch_varlen(packing: Packing, layers: list[Layer]) -> Contender | str:
    if find_spec("torch.nn.attention.varlen") is None:
        return "this torch has none"
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0 if packing.seen.causal else -1)
    return _packed(partial(varlen_attn, window_size=window), packing, layers)


def _flash_attn(packing: Packing, layers: list[Layer]) -> Contender | str:
    if find_spec("flash_attn") is None:
        return "flash_attn is not installed"
    from flash_attn import flash_attn_varlen_func

    return _packed(partial(flash_attn_varlen_func, causal=packing.seen.causal), packing, layers)


def _packed(attention: Any, packing: Packing, layers: list[Layer]) -> Contender:
    """``attention(query, key, value, offsets, offsets, longest, longest)`` over every layer."""
    rows = (packing.offsets, packing.offsets, packing.longest, packing.longest)

    def run() -> Tensor:
        for layer in layers:
            result: Tensor = attention(*layer, *rows)
        return result

    return Contender(run, calls=len(layers), unpack=packing.unpack)
