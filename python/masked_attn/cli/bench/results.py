"""The figures of each system, as a row of plain values, and the rows as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masked_attn.cli.bench.memory import Memory
from masked_attn.cli.bench.running import Outcome
from masked_attn.cli.bench.systems import BASELINE
from masked_attn.cli.bench.turns import step_ms

__all__ = ["Row", "is_noisy", "make_rows", "table"]

Row = dict[str, Any]

_TIMES = ("prompt_s", "step_ms", "step_range_ms", "total_s", "spread", "tokens_per_s")
_MEMORY = ("peak_bytes", "added_bytes")
_AGREEMENT = ("speed_up", "equal_rows")
# Key in a row, title, how a cell is printed.
_COLUMNS = (
    ("prompt_s", "prompt s", "{:.3f}"),
    ("step", "ms per step", "{}"),
    ("total_s", "total s", "{:.3f}"),
    ("spread", "spread", "{:.0%}"),
    ("tokens_per_s", "tokens/s", "{:.0f}"),
    ("peak_mb", "peak MB", "{:.0f}"),
    ("added_mb", "added MB", "{:.0f}"),
    ("speed_up", "speed-up", "{:.2f}x"),
    ("same", "tokens as stock", "{}"),
)


def make_rows(outcomes: Sequence[Outcome], memories: Mapping[str, Memory | str]) -> list[Row]:
    """One row for each system; figures that nobody has are ``None``.

    Times are those of the fastest calls. A step is the rest of the total after the prompt, shared
    out over the new tokens after the first; it has no figure where that is not above zero. Its
    range is that of the turns, and ``spread`` how much slower the slowest total is.

    Tokens are compared with stock sdpa, or with the first stock system that ran.
    """
    ran = [outcome for outcome in outcomes if outcome.measured]
    stock = [outcome for outcome in ran if outcome.system.switches is None]
    baseline = next((outcome for outcome in stock if outcome.system == BASELINE), None)
    reference = baseline or next(iter(stock), None)
    rows = []
    for outcome in outcomes:
        row = _described(outcome)
        if outcome.measured:
            row.update(_times(outcome))
            row["speed_up"] = min(baseline.total) / row["total_s"] if baseline else None
            row["equal_rows"] = _equal_rows(outcome, reference)
        memory = memories.get(outcome.system.name)
        if isinstance(memory, Memory):
            row.update(peak_bytes=memory.peak, added_bytes=memory.peak - memory.before)
        elif memory is not None:
            row["memory_error"] = memory
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown with even columns; what failed has its reason in the last column."""
    heads = ["system", *(title for _, title, _ in _COLUMNS)]
    lines = [[str(row["label"]), *_cells(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    # A long reason must not make every line long.
    widths[-1] = max(len(line[-1]) for line in [heads, *lines] if line is heads or line[1] != "-")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:-1]), "-" * widths[-1]]
    return "\n".join(_line(cells, widths) for cells in [heads, rule, *lines])


def _described(outcome: Outcome) -> Row:
    system = outcome.system
    row: Row = {"system": system.name, "label": system.label, "switches": system.switches}
    row.update(dict.fromkeys((*_TIMES, *_MEMORY, *_AGREEMENT)))
    row.update(rows=None if outcome.tokens is None else len(outcome.tokens))
    row.update(prompt_samples_s=outcome.prompt, total_samples_s=outcome.total)
    return {**row, "error": outcome.error or None, "memory_error": None}


def _times(outcome: Outcome) -> Row:
    assert outcome.tokens is not None
    rows, new_tokens = outcome.tokens.shape
    prompt, total = min(outcome.prompt), min(outcome.total)

    steps = outcome.steps_ms(new_tokens)
    best = step_ms(prompt, total, new_tokens)
    return {
        "prompt_s": prompt,
        "step_ms": best if best > 0 else None,
        "step_range_ms": [min(steps), max(steps)],
        "total_s": total,
        "spread": max(outcome.total) / total - 1 if len(outcome.total) > 1 else None,
        "tokens_per_s": rows * new_tokens / total,
    }


def is_noisy(row: Row) -> bool:
    """Whether the time of a step drowns in the differences between turns."""
    if row["step_range_ms"] is None:
        return False
    low, high = row["step_range_ms"]
    return row["step_ms"] is None or low <= 0 or high - low > row["step_ms"]


def _equal_rows(outcome: Outcome, reference: Outcome | None) -> int | None:
    if outcome.tokens is None or reference is None or reference.tokens is None:
        return None
    return int((outcome.tokens == reference.tokens).all(dim=1).sum())


def _cells(row: Row) -> list[str]:
    if row["error"]:
        return ["-"] * (len(_COLUMNS) - 1) + [f"failed: {row['error']}"]
    if row["total_s"] is None:
        return ["-"] * (len(_COLUMNS) - 1) + ["not measured"]
    same = row["equal_rows"]
    shown = {
        **row,
        "step": _step(row),
        "peak_mb": _megabytes(row["peak_bytes"]),
        "added_mb": _megabytes(row["added_bytes"]),
        "same": None if same is None else f"{same} of {row['rows']} rows",
    }
    return [
        "-" if shown[key] is None else pattern.format(shown[key]) for key, _, pattern in _COLUMNS
    ]


def _step(row: Row) -> str:
    """The best step and, of several turns, the range."""
    best = "?" if row["step_ms"] is None else f"{row['step_ms']:.2f}"
    if row["spread"] is None:
        return best
    low, high = row["step_range_ms"]
    return f"{best} ({low:.2f} to {high:.2f})"


def _megabytes(size: int | None) -> float | None:
    return None if size is None else 1e-6 * size


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, figures to the right."""
    last = len(cells) - 1
    padded = [
        cell.ljust(width) if place in (0, last) else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"
