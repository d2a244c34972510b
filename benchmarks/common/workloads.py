"""Shapes and lengths of the workloads: GPT-2 124M, a batch of prompts padded on the left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["DTYPES", "GPT2", "GROUPED", "QUICK", "Layer", "Sizes", "make_layers", "ragged_lengths"]

Layer = tuple[Tensor, Tensor, Tensor]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Sizes:
    """What a benchmark has of everything but tokens."""

    batch: int
    heads: int
    head_dim: int
    layers: int
    device: str = "cpu"
    group: int = 1  # heads of queries for each head of keys and values

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads // self.group

    def lengths(self, full: tuple[int, ...]) -> tuple[int, ...]:
        """``full``, or two short lengths in a quick run."""
        return (16, 32) if replace(self, device=QUICK.device) == QUICK else full


GPT2 = Sizes(batch=8, heads=12, head_dim=64, layers=12)
QUICK = Sizes(batch=2, heads=2, head_dim=16, layers=2)
# Llama 3, Qwen: heads of keys and values are shared.
GROUPED = Sizes(batch=1, heads=8, head_dim=128, layers=12)


def ragged_lengths(batch: int, length: int) -> tuple[int, ...]:
    """Real tokens of each row: ``length / batch``, ... , ``length`` (44 % padding for 8 rows).

    A batch of one row has the same share of padding as a batch of eight.
    """
    if batch == 1:
        return (max(1, length * 9 // 16),)
    return tuple(max(1, length * row // batch) for row in range(1, batch + 1))


def make_layers(
    sizes: Sizes, length: int, dtype: torch.dtype = torch.float32, count: int | None = None
) -> list[Layer]:
    """Query, key and value ``[batch, heads, length, head_dim]`` for each of ``count`` layers.

    They lie in memory as a model leaves them: ``[batch, length, heads, head_dim]``, transposed.
    """
    shape = (sizes.batch, length, sizes.heads, sizes.head_dim)

    def tensor() -> Tensor:
        return torch.randn(shape, device=sizes.device).to(dtype).transpose(1, 2)

    return [(tensor(), tensor(), tensor()) for _ in range(count or sizes.layers)]
