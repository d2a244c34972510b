"""Whole generations as cells of a table; their turns are ``masked_attn.cli.bench.turns``."""

from __future__ import annotations

from collections.abc import Mapping

from masked_attn.cli.bench.turns import Generations
from masked_attn.cli.bench.workload import Workload

from .report import Column, Row

__all__ = ["COLUMNS", "RATIOS", "SYSTEMS", "ratios", "rows", "times"]

RATIOS = (
    Column("ratio_prompt", "prompt ratio"),
    Column("ratio_best", "total ratio"),
    Column("ratio_step", "step ratio"),
)
COLUMNS = (
    Column("prompt_s", "prompt s", digits=3),
    Column("total_s", "total s", digits=3),
    Column("median_total_s", "median", digits=3),
    Column("step_ms", "ms per step"),
    *RATIOS,
)
SYSTEMS = (
    Column("workload", "workload", width=10),
    Column("system", "system", width=18),
    *COLUMNS,
    Column("equal_tokens", "same tokens as stock", width=12),
)


def times(found: Generations, new_tokens: int) -> Row:
    """Seconds of the fastest calls, and the fastest turn's milliseconds of a step."""
    return {
        "prompt_s": min(found.prompt),
        "total_s": min(found.total),
        "median_total_s": found.median_total,
        "step_ms": min(found.steps_ms(new_tokens)),
    }


def ratios(one: Row, other: Row) -> Row:
    """The times of ``one`` divided by those of ``other``."""
    keys = zip(RATIOS, ("prompt_s", "total_s", "step_ms"), strict=True)
    return {column.key: float(one[key]) / float(other[key]) for column, key in keys}


def rows(work: Workload, found: Mapping[str, Generations], stock: str) -> list[Row]:
    """One row of ``SYSTEMS`` for each; ratios are stock / this one, of the fastest turns."""
    reference = found[stock].tokens
    base = times(found[stock], work.new_tokens)
    made: list[Row] = []
    for name, mine in found.items():
        row: Row = {"workload": work.name, "system": name, **times(mine, work.new_tokens)}
        same = int((mine.tokens == reference).sum())
        made.append({**row, **ratios(base, row), "equal_tokens": f"{same} of {reference.numel()}"})
    return made
