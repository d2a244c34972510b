"""Sequences of different lengths, each alone and all of them packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from masked_attn import packed_attention
from support.cases import Inputs, make_inputs

Length = int | tuple[int, int]  # queries, or queries and keys


@dataclass
class Packed:
    """``rows`` are [1, heads, length, dim] each; ``tensors`` hold them back to back."""

    rows: list[Inputs]
    tensors: tuple[Tensor, Tensor, Tensor]
    queries: list[int]
    keys: list[int]
    options: dict[str, Any] = field(default_factory=dict)
    own_keys: bool = False
    offset_dtype: torch.dtype = torch.int64

    def kwargs(self) -> dict[str, Any]:
        lengths = {"cu_seqlens": self._offsets(self.queries), "max_seqlen": most(self.queries)}
        if self.own_keys:
            lengths["cu_seqlens_k"] = self._offsets(self.keys)
            lengths["max_seqlen_k"] = most(self.keys)
        return {**lengths, **self.options}

    def call(self, op: Callable[..., Any] = packed_attention, **changes: Any) -> Any:
        return op(*self.tensors, **{**self.kwargs(), **changes})

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> Packed:
        query, key, value = (change(t) for t in self.tensors)
        return replace(self, tensors=(query, key, value))

    def rows_of(self, out: Tensor, logsumexp: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each sequence's part of the results, in the shapes of ``masked_attention``."""
        outs = out.split(self.queries)
        sums = logsumexp.split(self.queries, dim=1)
        return [(o.transpose(0, 1)[None], s[None]) for o, s in zip(outs, sums, strict=True)]

    def _offsets(self, lengths: list[int]) -> Tensor:
        return offsets(lengths, self.offset_dtype).to(self.tensors[0].device)


def most(lengths: Sequence[int]) -> int:
    return max(lengths, default=0)


def offsets(lengths: Sequence[int], dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(dtype)


def make_packed(
    lengths: Sequence[Length],
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    offset_dtype: torch.dtype = torch.int64,
    **options: Any,
) -> Packed:
    """``options`` are those of ``make_inputs``: heads, dims, dtype, kv_dtype, device."""
    pairs = [(n, n) if isinstance(n, int) else n for n in lengths]
    rows = [
        make_inputs(
            batch=1, queries=q, keys=k, causal=causal, window=window, seed=number, **options
        )
        for number, (q, k) in enumerate(pairs)
    ]
    empty = make_inputs(batch=1, queries=0, keys=0, **options)
    query, key, value = (
        torch.cat([t[0].transpose(0, 1) for t in tensors])
        for tensors in zip(*(row.tensors() for row in (empty, *rows)), strict=True)
    )
    return Packed(
        rows,
        (query, key, value),
        [q for q, _ in pairs],
        [k for _, k in pairs],
        {"causal": causal, "window": window, "scale": scale},
        own_keys=any(q != k for q, k in pairs),
        offset_dtype=offset_dtype,
    )
