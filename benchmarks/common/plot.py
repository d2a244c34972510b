"""Draws tables with matplotlib; imported only when ``--plot`` asks for it."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from .report import Chart, Table

__all__ = ["draw"]


def draw(tables: list[Table], caption: str, file: str) -> None:
    """Write one picture with a chart for each table; the ending of ``file`` says the format."""
    heights = [4.0 if table.chart.lines else 1.2 + 0.25 * len(table.rows) for table in tables]
    figure = Figure(figsize=(10, sum(heights) + 1), layout="constrained")
    axes = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for table, axis in zip(tables, axes, strict=True):
        _draw_lines(axis, table) if table.chart.lines else _draw_bars(axis, table)
        axis.set_title(table.name, loc="left")
    figure.suptitle(caption, fontsize="small")
    figure.savefig(file, dpi=120)


def _label(table: Table, chart: Chart, row: int) -> str:
    return ", ".join(str(table.rows[row][key]) for key in chart.labels)


def _draw_bars(axis: Any, table: Table) -> None:
    """One bar for each row; the line at 1 is where ours and the rival are equal."""
    value = table.chart.values[0]
    timed = [row for row in range(len(table.rows)) if not isinstance(table.rows[row][value], str)]
    bars = axis.barh(range(len(timed)), [table.rows[row][value] for row in timed])
    axis.bar_label(bars, fmt="%.2f", padding=2)
    axis.set_yticks(range(len(timed)), [_label(table, table.chart, row) for row in timed])
    axis.invert_yaxis()
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel(table.chart.title)


def _draw_lines(axis: Any, table: Table) -> None:
    """One line for each value, over the first label."""
    across = [row[table.chart.labels[0]] for row in table.rows]
    for value in table.chart.values:
        axis.plot(across, [row[value] for row in table.rows], marker="o", label=value)
    if table.chart.doubling:
        axis.set_xscale("log", base=2)
    axis.set_xlabel(table.chart.labels[0])
    axis.set_ylabel(table.chart.title)
    axis.set_ylim(bottom=0)
    axis.legend()
