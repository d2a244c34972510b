"""The truth about a call: ``masked_attn.reference`` in float64, one row of the batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from masked_attn import reference

from .visibility import Visibility
from .workloads import Layer

__all__ = ["true_attention", "true_mask", "true_softmax"]


def true_attention(seen: Visibility, layer: Layer) -> Tensor:
    """``[batch, heads, queries, head_dim]``."""
    rows = []
    for row in range(seen.batch):
        query, key, value = (tensor[row : row + 1].double() for tensor in layer)
        out, _ = reference.masked_attention(
            query, key, value, key_mask=_row_mask(seen, row), causal=seen.causal
        )
        rows.append(out)
    return torch.cat(rows)


def true_softmax(seen: Visibility, scores: Tensor, scale: float) -> Tensor:
    """``[batch, heads, queries, keys]``."""
    rows = [
        reference.masked_softmax(
            scores[row : row + 1].double(),
            scale=scale,
            key_mask=_row_mask(seen, row),
            causal=seen.causal,
        )
        for row in range(seen.batch)
    ]
    return torch.cat(rows)


def true_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """``[batch, 1, queries, keys]``: 0, or the smallest number of ``dtype``."""
    fill = torch.finfo(dtype).min
    return reference.expand_mask(mask, dtype=torch.float64, causal=True, fill=fill)


def _row_mask(seen: Visibility, row: int) -> Tensor | None:
    return None if seen.key_mask is None else seen.key_mask[row : row + 1]
