"""The oracle of ``flash_attn_with_kvcache``: slot by slot, over caches that it writes itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from support import flash_oracle
from support.flash_oracle import Call


@dataclass
class Step:
    """The arguments of one call. Lists say for each row what tensors say in the call."""

    q: Tensor
    k_cache: Tensor
    v_cache: Tensor
    k: Tensor | None = None
    v: Tensor | None = None
    filled: list[int] | int = 0
    rows: list[int] | None = None
    leftpad: list[int] | None = None
    table: list[list[int]] | None = None
    cos: Tensor | None = None
    sin: Tensor | None = None
    interleaved: bool = True
    call: Call = field(default_factory=Call)

    def kwargs(self) -> dict[str, Any]:
        """The arguments, with caches of their own."""

        def numbers(given: Any) -> Any:
            if given is None or isinstance(given, int):
                return given
            return torch.tensor(given, dtype=torch.int32, device=self.q.device)

        return {
            "q": self.q,
            "k_cache": self.k_cache.clone(),
            "v_cache": self.v_cache.clone(),
            "k": self.k,
            "v": self.v,
            "cache_seqlens": numbers(self.filled),
            "cache_batch_idx": numbers(self.rows),
            "cache_leftpad": numbers(self.leftpad),
            "block_table": numbers(self.table),
            "rotary_cos": self.cos,
            "rotary_sin": self.sin,
            "rotary_interleaved": self.interleaved,
            **self.call.kwargs(),
        }

    def slot(self, row: int, position: int) -> tuple[int, int]:
        """Where a token of a row lies in the cache."""
        if self.table is not None:
            size = self.k_cache.shape[1]
            return self.table[row][position // size], position % size
        return (row if self.rows is None else self.rows[row]), position

    def expected(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Output, log-sum-exp, and both caches after the call."""
        k_cache, v_cache = self.k_cache.clone(), self.v_cache.clone()
        outs, sums = [], []
        for row in range(self.q.shape[0]):
            filled = self.filled if isinstance(self.filled, int) else self.filled[row]
            q = self.q[row]
            new = 0
            if self.k is not None and self.v is not None:
                new = self.k.shape[1]
                k = self.k[row]
                if self.cos is not None and self.sin is not None:
                    tables = (self.cos, self.sin)
                    q = flash_oracle.rotated(q, *tables, self._own(filled), self.interleaved)
                    where = list(range(filled, filled + new))
                    k = flash_oracle.rotated(k, *tables, where, self.interleaved)
                for token in range(new):
                    slot = self.slot(row, filled + token)
                    k_cache[slot], v_cache[slot] = k[token], self.v[row, token]
            begin = 0 if self.leftpad is None else self.leftpad[row]
            slots = [self.slot(row, j) for j in range(begin, filled + new)]
            keys = [k_cache[slot] for slot in slots] or [k_cache[:0].flatten(0, 1)]
            values = [v_cache[slot] for slot in slots] or [v_cache[:0].flatten(0, 1)]
            join = torch.stack if slots else torch.cat
            out, lse = flash_oracle.sequence(q, join(keys), join(values), self.call.of_row(row))
            outs.append(out)
            sums.append(lse)
        return torch.stack(outs), torch.stack(sums), k_cache, v_cache

    def _own(self, filled: int) -> list[int]:
        """The positions of the queries: all at the first, unless order matters to them."""
        ordered = self.call.causal or self.call.window_size != (-1, -1)
        return [filled + (i if ordered else 0) for i in range(self.q.shape[1])]


def assert_right(step: Step) -> None:
    from masked_attn.flash import flash_attn_with_kvcache

    out, lse, k_cache, v_cache = step.expected()
    arguments = step.kwargs()
    ours, our_lse = flash_attn_with_kvcache(**arguments, return_softmax_lse=True)
    assert ours.dtype == step.q.dtype and ours.is_contiguous()
    dtype = step.k_cache.dtype
    flash_oracle.assert_near(ours, out)
    flash_oracle.assert_near(our_lse, lse, step.q.dtype if dtype == step.q.dtype else dtype)
    bound = flash_oracle.ACCURATE[dtype]  # keys were turned
    torch.testing.assert_close(
        arguments["k_cache"], k_cache, rtol=bound, atol=bound, equal_nan=True
    )
    torch.testing.assert_close(arguments["v_cache"], v_cache, rtol=0, atol=0, equal_nan=True)
    alone = step.kwargs()
    torch.testing.assert_close(flash_attn_with_kvcache(**alone), ours, rtol=0, atol=0)
