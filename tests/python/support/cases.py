"""Inputs: rotating samples of sizes, padding masks and attention masks by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from support import seeds
from support.oracle import Masks

SIZES = (1, 2, 17, 31, 32, 33, 63, 64, 65, 127, 129, 267, 514)
SMALL_SIZES = (1, 2, 17, 31, 33, 63, 64, 65, 129)
HEAD_DIMS = (1, 8, 15, 16, 32, 64, 80, 128, 256)
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
KEY_MASKS = ("none", "full", "left", "right", "both", "holes", "one_key", "empty_row")
MASK_SHAPES = ("QK", "11QK", "B11K", "B1QK", "BHQK", "1HQK", "HQK", "1H1K")


def rotate(count: int, seed: int, **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """``count`` rows in which every value of every column comes up about equally often."""
    rng = random.Random(seeds.shifted(seed))
    drawn = []
    for values in columns.values():
        column: list[Any] = []
        while len(column) < count:
            column += rng.sample(list(values), len(values))
        drawn.append(column[:count])
    return [dict(zip(columns, row, strict=True)) for row in zip(*drawn, strict=True)]


def case_id(row: dict[str, Any]) -> str:
    return "-".join(f"{name}={_short(value)}" for name, value in row.items())


def _short(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "x".join(_short(item) for item in value)
    return str(value).replace("torch.", "")


def key_mask(kind: str, batch: int, keys: int, device: torch.device | str = "cpu") -> Tensor | None:
    """bool [B, K] by name; the length of the visible part differs from row to row."""
    if kind == "none":
        return None
    slots = torch.arange(keys)
    rows = [_key_mask_row(kind, row, slots) for row in range(batch)]
    mask = torch.stack(rows) if rows else torch.zeros(0, keys, dtype=torch.bool)
    return mask.to(device)


def _key_mask_row(kind: str, row: int, slots: Tensor) -> Tensor:
    keys = len(slots)
    pad = keys * (row + 1) // 5 + (row if keys > 8 else 0)
    if kind == "left":
        return slots >= pad
    if kind == "right":
        return slots < keys - pad
    if kind == "both":
        return (slots >= pad // 2) & (slots < keys - (pad + 1) // 2)
    if kind == "holes":
        return (slots * (row + 3) + row) % 7 > 2
    if kind == "one_key":
        return slots == (keys * (row + 1)) // 3 % max(keys, 1)
    if kind == "empty_row":
        return (slots >= pad) & (row != 0)
    assert kind == "full", kind
    return torch.ones(keys, dtype=torch.bool)


def mask_shape(name: str, batch: int, heads: int, queries: int, keys: int) -> tuple[int, ...]:
    sizes = {"B": batch, "H": heads, "Q": queries, "K": keys, "1": 1}
    return tuple(sizes[letter] for letter in name)


def attn_mask(kind: str, shape: tuple[int, ...]) -> Tensor | None:
    """``none``, ``bool``, or a float dtype's name; float masks mix biases, finfo.min and -inf."""
    if kind == "none":
        return None
    draw = torch.rand(shape)
    if kind == "bool":
        return draw < 0.7
    dtype = getattr(torch, kind)
    bias = torch.randn(shape).to(dtype)
    bias[draw < 0.2] = torch.finfo(dtype).min
    bias[draw < 0.1] = float("-inf")
    return bias


@dataclass
class Inputs:
    query: Tensor
    key: Tensor
    value: Tensor
    masks: Masks

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value

    def call(self, op: Callable[..., Any], **changes: Any) -> Any:
        return op(*self.tensors(), **{**self.masks.kwargs(), **changes})


def make_inputs(
    *,
    batch: int = 2,
    heads: tuple[int, int] = (2, 2),
    queries: int = 17,
    keys: int = 17,
    dims: tuple[int, int] = (16, 16),
    dtype: torch.dtype = torch.float32,
    kv_dtype: torch.dtype | None = None,
    padding: str = "none",
    attn: str = "none",
    attn_shape: str = "B1QK",
    causal: bool = False,
    window: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Inputs:
    """Query, key, value ~ N(0, 1) and masks; ``heads`` = (heads, kv_heads), ``dims`` = (D, Dv)."""
    seeds.start(seed)
    kv_dtype = kv_dtype or dtype
    query = torch.randn(batch, heads[0], queries, dims[0]).to(device, dtype)
    key = torch.randn(batch, heads[1], keys, dims[0]).to(device, kv_dtype)
    value = torch.randn(batch, heads[1], keys, dims[1]).to(device, kv_dtype)
    bias = attn_mask(attn, mask_shape(attn_shape, batch, heads[0], queries, keys))
    masks = Masks(key_mask(padding, batch, keys), bias, causal, window)
    return Inputs(query, key, value, masks.to(device))
