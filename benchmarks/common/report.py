"""Tables: printed row by row while they are measured, kept for ``--json`` and ``--plot``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .machine import Machine
from .timing import Times

__all__ = [
    "CASE",
    "COMPARISON",
    "PRODUCTS",
    "READING",
    "RIVAL",
    "TIMES",
    "Chart",
    "Column",
    "Report",
    "Row",
    "Table",
    "comparison",
]

Cell = str | int | float
Row = dict[str, Cell]


@dataclass(frozen=True)
class Column:
    """One column: its key in a row and in the JSON, its title, and how a cell is printed."""

    key: str
    title: str
    width: int = 0
    digits: int = 2

    def text(self, cell: Cell) -> str:
        """``cell`` at the width of the column; numbers to the right."""
        width = max(self.width, len(self.title))
        if isinstance(cell, str):
            return f"{cell:<{width}}"
        return f"{cell:>{width}.{0 if isinstance(cell, int) else self.digits}f}"

    def head(self) -> str:
        """The title at the width of the column."""
        return f"{self.title:<{max(self.width, len(self.title))}}"


CASE = Column("case", "case", width=24)
RIVAL = Column("rival", "rival", width=22)
TIMES = (
    Column("ours_best_ms", "ours ms"),
    Column("ours_median_ms", "median"),
    Column("rival_best_ms", "rival ms", width=9),
    Column("rival_median_ms", "median", width=9),
    Column("ratio_best", "ratio"),
    Column("ratio_median", "median"),
)
COMPARISON = (CASE, RIVAL, *TIMES)
PRODUCTS = (
    Column("gflops", "GFLOP/s", digits=0),
    Column("of_products", "% of products", digits=0),
)
READING = (Column("gbs", "GB/s", digits=1), Column("of_reading", "% of reading", digits=0))


def comparison(ours: Times, rival: Times) -> Row:
    """The cells of ``TIMES``; a ratio above 1 means that ours is faster."""
    return {
        "ours_best_ms": ours.best,
        "ours_median_ms": ours.median,
        "rival_best_ms": rival.best,
        "rival_median_ms": rival.median,
        "ratio_best": rival.best / ours.best,
        "ratio_median": rival.median / ours.median,
    }


@dataclass(frozen=True)
class Chart:
    """How ``--plot`` draws a table: a bar for each row, or ``values`` as lines over a label."""

    labels: tuple[str, ...] = ("case", "rival")
    values: tuple[str, ...] = ("ratio_best",)
    lines: bool = False
    doubling: bool = False  # the labels of lines double from one to the next
    title: str = "time of the rival / time of ours"


@dataclass
class Table:
    """A table that grows; ``columns`` are what is printed of its rows."""

    name: str
    columns: tuple[Column, ...]
    chart: Chart
    changed: Callable[[], None]
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Keep a row and print it."""
        self.rows.append(row)
        self.changed()
        self._print([column.text(row[column.key]) for column in self.columns])

    def print_head(self) -> None:
        """Print the name, the titles and the rule under them, as Markdown."""
        print(f"\n{self.name}\n")
        self._print([column.head() for column in self.columns])
        self._print(["-" * len(column.head()) for column in self.columns])

    def _print(self, cells: list[str]) -> None:
        print("| " + " | ".join(cells) + " |", flush=True)


class Report:
    """Everything that one run of a script has found."""

    def __init__(self, options: argparse.Namespace, machine: Machine) -> None:
        self.options = options
        self.machine = machine
        self.tables: list[Table] = []
        self.notes: list[str] = []
        self.failures: list[str] = []

    def table(self, name: str, columns: tuple[Column, ...], chart: Chart | None = None) -> Table:
        """Start a table and print its head."""
        table = Table(name, columns, chart or Chart(), self._write)
        table.print_head()
        self.tables.append(table)
        return table

    def list_slower(self, table: Table) -> None:
        """Start a table of the rows of ``table`` in which the rival is faster."""
        below = [row for row in table.rows if float(row["ratio_best"]) < 1.0]
        name = f"{len(below)} of {len(table.rows)} cells below 1.0"
        slower = self.table(name, table.columns, table.chart)
        for row in below:
            slower.add(row)

    def note(self, text: str) -> None:
        """Print a line between the rows and keep it."""
        self.notes.append(text)
        print(text, flush=True)

    def share_of_products(self, flop: float, milliseconds: float) -> Row:
        """GFLOP/s, and percent of the measured matrix-product rate."""
        rate = 1e-6 * flop / milliseconds
        return {"gflops": rate, "of_products": 100 * rate / self.machine.products}

    def share_of_reading(self, size: float, milliseconds: float) -> Row:
        """GB/s of ``size`` bytes, and percent of the measured read bandwidth."""
        rate = 1e-6 * size / milliseconds
        return {"gbs": rate, "of_reading": 100 * rate / self.machine.reading}

    def finish(self) -> None:
        """Write what ``--json`` and ``--plot`` asked for; stop if ours was wrong anywhere."""
        self._write()
        if self.options.plot:
            from .plot import draw

            draw(self.tables, str(self.machine), self.options.plot)
        if self.failures:
            raise SystemExit("masked_attn is wrong:\n" + "\n".join(self.failures))

    def _write(self) -> None:
        """After every row, so that a run that is stopped leaves what it has found."""
        if not self.options.json:
            return
        found = {
            "script": Path(sys.argv[0]).stem,
            "options": vars(self.options),
            "machine": asdict(self.machine),
            "described": str(self.machine),
            "tables": {table.name: table.rows for table in self.tables},
            "notes": self.notes,
        }
        Path(self.options.json).write_text(json.dumps(found, indent=1) + "\n")
