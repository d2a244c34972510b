"""Where the tokens of a batch are in a cache: how long rows are, and in which slots they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import has_shape, is_integer, refuse
from ._pages import check_blocks, in_range, used_blocks

__all__ = ["Cache", "Lengths"]


@dataclass(frozen=True)
class Lengths:
    """A number of slots for each row, or one for all of them.

    Numbers of each row stay on their device. On a CPU they are looked at: wrong ones are refused,
    and equal ones are one number.
    """

    batch: int
    device: torch.device
    same: int | None
    each: Tensor | None

    @classmethod
    def read(cls, function: str, name: str, given: int | Tensor, q: Tensor, most: int) -> Lengths:
        """``most`` is the largest number that is right."""
        same = each = None
        if isinstance(given, Tensor):
            has_shape(function, name, given, "[batch]", (q.shape[0],))
            is_integer(function, name, given, q.device)
            each = given.long()
            numbers = given.tolist() if q.device.type == "cpu" else []
            if len(set(numbers)) == 1:
                same = numbers[0]
        else:
            same = int(given)
            numbers = [same]
        for number in numbers:
            if not 0 <= number <= most:
                refuse(function, f"{name} must be in [0, {most}], got {number}")
        return cls(q.shape[0], q.device, same, each)

    def plus(self, tokens: int) -> Lengths:
        """After ``tokens`` more of each row."""
        return replace(
            self,
            same=None if self.same is None else self.same + tokens,
            each=None if self.each is None else self.each + tokens,
        )

    def rows(self) -> Tensor:
        """``[batch]`` int64, on the device."""
        if self.each is not None:
            return self.each
        return torch.full((self.batch,), self.same or 0, device=self.device)

    def positions(self, tokens: int) -> Tensor:
        """Those of the next ``tokens`` of each row: ``[1 or batch, tokens]``."""
        after = torch.arange(tokens, device=self.device)[None]
        return after + (self.rows()[:, None] if self.same is None else self.same)

    def longest(self, capacity: int) -> int:
        """At least the largest number: on a GPU the capacity, so that the host need not wait."""
        if self.same is not None:
            return self.same
        if self.device.type != "cpu":
            return capacity
        return int(self.rows().max()) if self.batch else 0


class Cache(NamedTuple):
    """The two caches, and how a row of the batch finds its own part of them."""

    function: str
    keys: Tensor
    values: Tensor
    rows: Tensor | None  # cache_batch_idx
    table: Tensor | None  # block_table
    batch: int

    @classmethod
    def of(
        cls,
        function: str,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        rows: Tensor | None,
        table: Tensor | None,
    ) -> Cache:
        batch = q.shape[0]
        if rows is not None and table is not None:
            refuse(function, "cache_batch_idx and block_table exclude each other")
        if table is not None:
            check_blocks(function, q, k_cache, v_cache, table, batch, suffix="_cache")
        else:
            layout = "[batch_cache, seqlen_cache, heads_k, head_dim]"
            has_shape(function, "k_cache", k_cache, layout, (None, None, None, q.shape[-1]))
            layout = layout.replace("head_dim", "value_dim")
            has_shape(function, "v_cache", v_cache, layout, (*k_cache.shape[:3], None))
            if rows is None and k_cache.shape[0] < batch:
                refuse(function, f"k_cache has {k_cache.shape[0]} rows, but q has {batch}")
        if rows is not None:
            has_shape(function, "cache_batch_idx", rows, "[batch]", (batch,))
            is_integer(function, "cache_batch_idx", rows, q.device)
            rows = in_range(function, "cache_batch_idx", rows, k_cache.shape[0])
        return cls(function, k_cache, v_cache, rows, table, batch)

    @property
    def capacity(self) -> int:
        """Slots of a row."""
        size = self.keys.shape[1]
        return size if self.table is None else self.table.shape[1] * size

    def write(self, k: Tensor, v: Tensor, filled: Lengths) -> None:
        """Put new tokens behind the filled slots of each row; none is, if one is wrong."""
        tokens = k.shape[1]
        if filled.same is not None and self.rows is None and self.table is None:
            slots = slice(filled.same, filled.same + tokens)
            self.keys[: self.batch, slots].copy_(k)
            self.values[: self.batch, slots].copy_(v)
            return
        slot = in_range(self.function, "cache_seqlens", filled.positions(tokens), self.capacity)
        if self.table is not None:
            size = self.keys.shape[1]
            table = self.blocks(filled.plus(tokens))
            where = (table.gather(1, (slot // size).expand(self.batch, -1)), slot % size)
        else:
            rows = self.rows
            if rows is None:
                rows = torch.arange(self.batch, device=k.device)
            where = (rows[:, None], slot)
        self.keys[where] = k.to(self.keys.dtype)
        self.values[where] = v.to(self.values.dtype)

    def blocks(self, filled: Lengths) -> Tensor:
        """The block table as int64, with 0 for blocks that no row reaches."""
        assert self.table is not None
        blocks, size = self.keys.shape[:2]
        return used_blocks(self.function, self.table, filled.rows(), blocks, size)

    def together(self, filled: Lengths) -> tuple[Tensor, Tensor]:
        """Keys and values of all rows up to the longest: views, or a copy of blocks."""
        longest = filled.longest(self.capacity)
        if self.table is None:
            return self.keys[: self.batch, :longest], self.values[: self.batch, :longest]
        size = self.keys.shape[1]
        table = self.blocks(filled)[:, : -(-longest // size)]
        keys, values = (cache[table].flatten(1, 2) for cache in (self.keys, self.values))
        return keys[:, :longest], values[:, :longest]
