"""Which query sees which key, and how much work and memory traffic that is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .workloads import Sizes

__all__ = ["Visibility"]


@dataclass(frozen=True)
class Visibility:
    """The rule of one attention call.

    Args:
        batch: rows of the batch.
        queries: queries of each row; the last one sees the last key.
        keys: keys of each row.
        causal: query ``i`` sees key ``j`` only if ``j <= i + keys - queries``.
        lengths: real keys of each row, padded on the left; None means no padding.
        device: where the masks are.
    """

    batch: int
    queries: int
    keys: int
    causal: bool = False
    lengths: tuple[int, ...] | None = None
    device: str = "cpu"

    @cached_property
    def key_mask(self) -> Tensor | None:
        """``[batch, keys]`` bool, True = real key; None without padding."""
        if self.lengths is None:
            return None
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.arange(self.keys, device=self.device) >= self.keys - lengths[:, None]

    @cached_property
    def real_queries(self) -> Tensor:
        """``[batch, queries]`` bool, True = not a pad."""
        if self.key_mask is None:
            return torch.ones(self.batch, self.queries, dtype=torch.bool, device=self.device)
        return self.key_mask[:, self.keys - self.queries :]

    @cached_property
    def dense(self) -> Tensor:
        """``[batch or 1, 1, queries, keys]`` bool, True = visible.

        A pad query sees itself, so that no row is empty: an empty row is NaN in some rivals.
        """
        past = self.keys - self.queries
        own = torch.eye(self.keys, dtype=torch.bool, device=self.device)[past:]
        mask = torch.ones(self.queries, self.keys, dtype=torch.bool, device=self.device)
        if self.causal:
            mask = mask.tril(past)
        if self.key_mask is None:
            return mask[None, None]
        return (mask & self.key_mask[:, None, None, :]) | own

    @property
    def ours(self) -> dict[str, Any]:
        """Keywords of ``masked_attention`` and ``masked_softmax``."""
        return {"key_mask": self.key_mask, "causal": self.causal}

    @property
    def sdpa(self) -> dict[str, Any]:
        """Keywords of ``scaled_dot_product_attention``: a mask only where it needs one."""
        if self.key_mask is not None or (self.causal and 1 < self.queries < self.keys):
            return {"attn_mask": self.dense}
        return {"is_causal": self.causal and self.queries == self.keys}

    @cached_property
    def pairs(self) -> int:
        """Visible (query, key) pairs of one head, over the batch; a pad query sees nothing."""
        real = self.key_mask
        if real is None:
            real = torch.ones(self.batch, self.keys, dtype=torch.bool, device=self.device)
        if not self.causal:
            return int((real.sum(-1) * self.real_queries.sum(-1)).sum())
        return int(real.cumsum(-1)[:, self.keys - self.queries :].sum())

    def flop(self, sizes: Sizes) -> float:
        """Operations of both matrix products on visible pairs only, over batch and heads."""
        return 4.0 * sizes.head_dim * self.pairs * sizes.heads

    def key_bytes(self, sizes: Sizes, element_size: int) -> float:
        """Bytes of all real keys and values of one layer."""
        real = self.batch * self.keys if self.lengths is None else sum(self.lengths)
        return 2.0 * real * sizes.kv_heads * sizes.head_dim * element_size
