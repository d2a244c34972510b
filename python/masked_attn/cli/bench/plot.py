"""Draws the table with matplotlib: a bar for each system, cut into prompt and token steps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masked_attn.cli.bench.results import Row
from masked_attn.cli.errors import BadInput, first_line

__all__ = ["check_plot", "draw"]

_ENDINGS = (".png", ".svg")
_PROMPT, _STEPS, _QUIET = "#33658a", "#f6ae2d", "#777777"  # told apart in grey too


def check_plot(file: str) -> None:
    """Make sure that a picture can be drawn, before anything is measured.

    Raises:
        BadInput: the ending is not known, or matplotlib is not installed.
    """
    if Path(file).suffix.lower() not in _ENDINGS:
        raise BadInput(f"--plot {file}: the name must end in {' or '.join(_ENDINGS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        why = "" if error.name == "matplotlib" else f" ({first_line(error)})"
        message = f"--plot needs matplotlib{why}; run: pip install 'masked_attn[plot]'"
        raise BadInput(message) from error


def draw(rows: Sequence[Row], title: str, caption: str, file: str) -> None:
    """Write one picture; the ending of ``file`` says the format.

    Args:
        rows: what ``make_rows`` gave.
        title: stands above the bars: model and prompts.
        caption: stands below them: the machine.
        file: name of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.1 + 0.42 * len(rows)), layout="constrained")
    axis = figure.subplots()
    _draw_bars(axis, rows)
    for place, row in enumerate(rows):
        _label(axis, place, row)
    longest = max((row["total_s"] or 0 for row in rows), default=0)
    axis.set_xlim(0, 1.2 * longest or 1)  # room for the words beside the bars
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("seconds")
    axis.set_title(title, loc="left", fontsize="medium")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)  # never over a bar
    figure.supxlabel(textwrap.fill(caption, 130), fontsize="x-small", color=_QUIET)
    figure.savefig(file, dpi=150)


def _draw_bars(axis: Any, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    totals = [row["total_s"] or 0.0 for row in rows]
    # On a busy machine the best prompt can be slower than the best total.
    prompts = [min(row["prompt_s"] or 0.0, total) for row, total in zip(rows, totals, strict=True)]
    steps = [total - prompt for total, prompt in zip(totals, prompts, strict=True)]
    axis.barh(places, prompts, color=_PROMPT, label="prompts")
    axis.barh(places, steps, left=prompts, color=_STEPS, label="token steps")


def _label(axis: Any, place: int, row: Row) -> None:
    """The total and the ratio beside a bar, or a word where there is none."""
    words, color = "failed" if row["error"] else "not measured", _QUIET
    if row["total_s"] is not None:
        words, color = f"{row['total_s']:.3g} s", "black"
    if row["speed_up"] is not None:
        words += f" ({row['speed_up']:.2f}x)"
    axis.annotate(
        words,
        (row["total_s"] or 0.0, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize="small",
    )
