"""Figures as rows of the tables."""

from __future__ import annotations

from common import generations
from common.generations import RATIOS, ratios, times
from common.report import Chart, Column, Row

from .catalogue import OURS, SYSTEMS
from .turns import Figures
from .workers.serve import Rows

__all__ = ["CHART", "COLUMNS", "description", "failed", "measured"]

COLUMNS = (
    Column("dtype", "dtype", width=8),
    Column("workload", "workload"),
    Column("group", "group"),
    Column("system", "system", width=38),
    *generations.COLUMNS,
    Column("equal_rows", "rows equal to stock"),
    Column("equal_first", "first tokens"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("first_s", "first call s", digits=1),
    Column("note", "note"),
)
CHART = Chart(("dtype", "workload", "system"), ("ratio_best",))


def measured(
    dtype: str, group: int, workload: str, found: dict[str, Figures], stock_tokens: Rows
) -> list[Row]:
    """A row for each system; ratios are its fastest / ours of the same rounds."""
    ours = found.get(OURS)
    return [
        failed(dtype, group, workload, name, figures.error)
        if figures.error
        else _row(dtype, group, name, figures, ours, stock_tokens)
        for name, figures in found.items()
    ]


def failed(dtype: str, group: int, workload: str, name: str, reason: str) -> Row:
    """The row of a system that does not run."""
    row: Row = {column.key: "-" for column in COLUMNS}
    row |= {"dtype": dtype, "group": group, "workload": workload, "note": reason}
    return {**row, "system": SYSTEMS[name].title}


def description(dtype: str, name: str, described: dict[str, str]) -> str:
    """A line of what a worker says of itself."""
    text = ", ".join(f"{key} {value}" for key, value in described.items())
    malloc = "tuned" if SYSTEMS[name].tuned_malloc else "plain"
    return f"- {SYSTEMS[name].title}, {dtype}: {text}, {malloc} malloc"


def _row(
    dtype: str, group: int, name: str, figures: Figures, ours: Figures | None, stock: Rows
) -> Row:
    pairs = list(zip(figures.tokens, stock, strict=True))
    row: Row = {
        "dtype": dtype,
        "workload": figures.work.name,
        "group": group,
        "system": SYSTEMS[name].title,
        **times(figures, figures.work.new_tokens),
        "equal_rows": f"{sum(mine == theirs for mine, theirs in pairs)} of {len(pairs)}",
        "equal_first": f"{sum(mine[:1] == theirs[:1] for mine, theirs in pairs)} of {len(pairs)}",
        "peak_mib": figures.peak,
        "first_s": figures.first,
        "note": "",
    }
    if ours is None or ours.error:
        return {**row, **{column.key: "-" for column in RATIOS}}
    return {**row, **ratios(row, times(ours, ours.work.new_tokens))}
