"""Is ours ever slower than SDPA? A sweep over batch, head size, length, dtype and mask.

B = 1, 8; H = 12; float32 and bfloat16; no mask, causal, ragged (left padding and causal; SDPA with
the same boolean mask). S = 1 is a token step: one query over 1024 keys. Tensors stay the same from
call to call, so small cells are hot in the caches, which is where overhead shows most.

A cell takes 3 to ``--repeats`` turns, half a second in all; one whose first turn is longer than a
second runs once. A cell in which SDPA would need longer than ``--longest`` seconds, judged by
the next shorter one, is left out and listed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor

from common import prompt
from common.agreement import agreement
from common.options import make_parser, start
from common.report import TIMES, Chart, Column, Row, Table, comparison
from common.timing import Contender, Times, seconds, timed_turns
from common.trial import OURS
from common.visibility import Visibility
from common.workloads import DTYPES, Layer, ragged_lengths

BATCHES, HEADS = (1, 8), 12
HEAD_DIMS = (64, 80, 96, 128, 256)
LENGTHS = (1, 16, 128, 1024, 4096)
STEP_KEYS = 1024  # keys of the one query of S = 1
RULES = ("no mask", "causal", "ragged")
BUDGET = 0.5  # seconds of a cell
ONCE = 1.0  # seconds of a call that runs once
SHORT = 2e-3  # seconds of a turn of several calls

COLUMNS = (
    Column("dtype", "dtype", width=8),
    Column("rule", "mask", width=7),
    Column("batch", "B"),
    Column("head_dim", "D", width=3),
    Column("length", "S", width=4),
    *(Column(column.key, column.title, column.width, digits=3) for column in TIMES[:4]),
    *TIMES[4:],
    Column("turns", "turns"),
)


@dataclass(frozen=True)
class Cell:
    """One cell of the sweep."""

    dtype: str
    rule: str
    batch: int
    head_dim: int
    length: int

    @property
    def keys(self) -> int:
        return STEP_KEYS if self.length == 1 else self.length

    @property
    def seen(self) -> Visibility:
        lengths = ragged_lengths(self.batch, self.keys) if self.rule == "ragged" else None
        return Visibility(self.batch, self.length, self.keys, self.rule != "no mask", lengths)


class Pool:
    """Memory for the tensors of every cell, so that the sweep does not wait for page faults."""

    def __init__(self, dtype: torch.dtype, elements: int) -> None:
        tile = torch.randn(1 << 18)
        tiles = -(-elements // tile.numel())
        self.memory = [tile.roll(part).to(dtype).repeat(tiles) for part in range(3)]

    def layer(self, cell: Cell) -> Layer:
        """Query, key and value; a prompt lies as a model leaves it, a cache is head-major."""
        query, key, value = self.memory
        if cell.length == 1:
            return self._cut(query, cell, 1), self._cut(key, cell), self._cut(value, cell)
        tensors = [
            memory[: cell.batch * cell.keys * HEADS * cell.head_dim]
            .view(cell.batch, cell.keys, HEADS, cell.head_dim)
            .transpose(1, 2)
            for memory in (query, key, value)
        ]
        return tensors[0], tensors[1], tensors[2]

    def _cut(self, memory: Tensor, cell: Cell, tokens: int = STEP_KEYS) -> Tensor:
        shape = (cell.batch, HEADS, tokens, cell.head_dim)
        return memory[: cell.batch * HEADS * tokens * cell.head_dim].view(shape)


def repeated(attention: prompt.Attention, layer: Layer, calls: int) -> Contender:
    """A turn of several calls, for those that are too short to be timed alone."""
    return prompt.over_layers(attention, [layer] * calls)


def measure(cell: Cell, layer: Layer, repeats: int) -> tuple[Times, Times]:
    """Times of ours and of SDPA, after as many turns as the cell is worth."""
    seen = cell.seen
    attentions = (prompt.ours(seen), prompt.sdpa(seen))
    first = [seconds(repeated(attention, layer, 1)) for attention in attentions]
    agreement(seen.real_queries)({OURS: first[0][1], "SDPA": first[1][1]})
    times = [elapsed for elapsed, _ in first]
    del first
    if max(times) > ONCE:
        return Times((1e3 * times[0],)), Times((1e3 * times[1],))
    # The first call of a cell is cold: the second says how long a call is.
    times = [seconds(repeated(attention, layer, 1))[0] for attention in attentions]
    calls = max(1, min(1000, int(SHORT / max(times))))
    wanted = int(BUDGET / (calls * sum(times)))
    turns = min(repeats, max(3, wanted))
    contenders = {
        name: repeated(attention, layer, calls)
        for name, attention in zip((OURS, "SDPA"), attentions, strict=True)
    }
    times_of = timed_turns(contenders, turns)
    return times_of[OURS], times_of["SDPA"]


def sweep(options: argparse.Namespace, dtype: str, table: Table) -> list[str]:
    """Measure every cell of one dtype; return a line for each one that is left out."""
    longest = max(STEP_KEYS if length == 1 else length for length in options.lengths)
    most = max(options.batches) * HEADS * longest * max(options.head_dims)
    pool, left_out = Pool(DTYPES[dtype], most), []
    for batch in options.batches:
        for head_dim in options.head_dims:
            for rule in options.rules:
                rate = 0.0  # seconds of SDPA for each query and key at the length before
                for length in options.lengths:
                    cell = Cell(dtype, rule, batch, head_dim, length)
                    estimate = rate * length * cell.keys
                    if estimate > options.longest:
                        left_out.append(f"{describe(cell)}: about {estimate:.0f} s")
                        continue
                    ours, rival = measure(cell, pool.layer(cell), options.repeats)
                    rate = 1e-3 * rival.best / (length * cell.keys) if length >= 128 else 0.0
                    row: Row = {**vars(cell), **comparison(ours, rival)}
                    table.add(row | {"turns": len(ours.samples)})
    return left_out


def describe(cell: Cell) -> str:
    return f"{cell.dtype}, {cell.rule}, B={cell.batch}, D={cell.head_dim}, S={cell.length}"


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    add("--rules", nargs="+", choices=RULES, default=list(RULES))
    add("--batches", nargs="+", type=int, default=list(BATCHES))
    add("--head-dims", nargs="+", type=int, default=list(HEAD_DIMS))
    add("--lengths", nargs="+", type=int, default=list(LENGTHS))
    add("--longest", type=float, default=30, help="seconds that SDPA may take in a cell")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.head_dims, options.lengths = [1, 2], [16], [1, 16]
    report = start(options)
    chart = Chart(("dtype", "rule", "batch", "head_dim", "length"))
    table = report.table("masked_attention against SDPA, per call", COLUMNS, chart)
    left_out = [line for dtype in options.dtypes for line in sweep(options, dtype, table)]
    report.list_slower(table)
    if left_out:
        print("\nleft out, SDPA would take too long:", *left_out, sep="\n- ")
    report.finish()


if __name__ == "__main__":
    main()
