"""Rows of different lengths, padded on either side with garbage: for tests of exactness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from support import seeds
from support.cases import Inputs
from support.oracle import Masks


@dataclass
class Row:
    """One sequence as it is alone: [1, heads, length, dim], and its bias if there is one."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None = None

    def inputs(self, causal: bool = False, window: int | None = None) -> Inputs:
        masks = Masks(attn_mask=self.bias, causal=causal, window=window)
        return Inputs(self.query, self.key, self.value, masks)


def make_row(
    length: int,
    *,
    queries: int | None = None,
    heads: tuple[int, int] = (2, 1),
    dims: tuple[int, int] = (16, 16),
    dtype: torch.dtype = torch.float32,
    bias: bool = False,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Row:
    seeds.start(1000 * seed + length)
    queries = length if queries is None else queries
    return Row(
        torch.randn(1, heads[0], queries, dims[0]).to(device, dtype),
        torch.randn(1, heads[1], length, dims[0]).to(device, dtype),
        torch.randn(1, heads[1], length, dims[1]).to(device, dtype),
        torch.randn(1, heads[0], queries, length).to(device, dtype) if bias else None,
    )


def pad(tensor: Tensor, dim: int, left: int, right: int, garbage: float) -> Tensor:
    shape = list(tensor.shape)
    parts = [tensor]
    for size, place in ((left, 0), (right, 2)):
        shape[dim] = size
        parts.insert(place, tensor.new_full(shape, garbage))
    return torch.cat(parts, dim=dim)


def padded(
    row: Row,
    left: int,
    right: int,
    *,
    causal: bool = False,
    window: int | None = None,
    garbage: float = float("nan"),
) -> Inputs:
    """The row with pads. A row of as many queries as keys gets padding queries too."""
    length = row.key.shape[2]
    self_attention = row.query.shape[2] == length
    query = pad(row.query, 2, left, right, garbage) if self_attention else row.query
    bias = row.bias
    if bias is not None:
        bias = pad(bias, 3, left, right, 0.0)
        bias = pad(bias, 2, left, right, 0.0) if self_attention else bias
    mask = torch.zeros(1, left + length + right, dtype=torch.bool, device=row.key.device)
    mask[:, left : left + length] = True
    return Inputs(
        query,
        pad(row.key, 2, left, right, garbage),
        pad(row.value, 2, left, right, garbage),
        Masks(key_mask=mask, attn_mask=bias, causal=causal, window=window),
    )


def real_part(out: Tensor, row: Row, left: int) -> Tensor:
    """The rows of ``out`` [1, heads, queries, ...] that belong to the row's own queries."""
    if row.query.shape[2] != row.key.shape[2]:
        return out
    return out[:, :, left : left + row.query.shape[2]]


def batch_of(parts: list[Inputs]) -> Inputs:
    """Stacks padded rows of one length into a batch."""
    biases = [part.masks.attn_mask for part in parts]
    return Inputs(
        *(torch.cat(tensors) for tensors in zip(*(p.tensors() for p in parts), strict=True)),
        Masks(
            key_mask=torch.cat([p.masks.key_mask for p in parts if p.masks.key_mask is not None]),
            attn_mask=torch.cat([b for b in biases if b is not None])
            if biases[0] is not None
            else None,
            causal=parts[0].masks.causal,
            window=parts[0].masks.window,
        ),
    )
