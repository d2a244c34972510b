"""One case of a benchmark: ours against its rivals, a row for each of them.

On the CPU every rival must agree with ours. On a GPU everybody, ours included, is compared with the
truth, and a rival that does not run or is wrong gets a row that says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from .agreement import agreement
from .clock import Clock, clock_of
from .report import COMPARISON, Column, Report, Row, Table, comparison
from .timing import Contender, Times, take_turns
from .trial import OURS, Trial, try_out

__all__ = ["Contenders", "columns", "compare"]

Contenders = Mapping[str, Contender | str]  # a text is why it does not run
Rates = Callable[[float], Row]

CHECKED = (
    Column("ours_error", "our error"),
    Column("rival_error", "its error"),
    Column("note", "note"),
)


def columns(options: argparse.Namespace, rate: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of a comparison with this rate of ours; a GPU needs more digits."""
    if options.device == "cpu":
        return COMPARISON + rate
    finer = [
        replace(column, digits=4) if column.key.endswith("_ms") else column for column in COMPARISON
    ]
    return (*finer, *rate, *CHECKED)


def compare(
    report: Report,
    table: Table,
    case: str,
    contenders: Contenders,
    *,
    truth: Callable[[], Tensor],
    rates: Rates,
    real_queries: Tensor | None = None,
    clock: Clock | None = None,
) -> None:
    """Measure a case and add its rows.

    Args:
        report: what the script has found.
        table: gets the rows.
        case: name of the case.
        contenders: name -> what to run, ours under ``OURS``.
        truth: computes the right result in float64; asked for on a GPU only.
        rates: milliseconds of ours -> the cells of its rate.
        real_queries: ``[batch, queries]`` bool; results of the others are not compared.
        clock: what times a run, if not the usual one of the device.
    """
    repeats, device = report.options.repeats, report.options.device
    clock = clock or clock_of(device)
    if device == "cpu":
        works = _those_that_run(report, contenders)
        times = take_turns(works, repeats, agreement(real_queries), clock)
        checks: dict[str, Row] = {name: {} for name in times}
    else:
        trial = try_out(contenders, truth(), real_queries)
        times = take_turns(trial.works, repeats, clock=clock)
        checks = {name: _checked(trial, name) for name in contenders}
        if OURS in trial.notes:
            report.failures.append(f"{table.name}, {case}: {trial.notes[OURS]}")
    for rival, checked in checks.items():
        if rival != OURS:
            row: Row = {"case": case, "rival": rival, **_cells(times[OURS], times.get(rival))}
            table.add({**row, **rates(times[OURS].best), **checked})


def _those_that_run(report: Report, contenders: Contenders) -> dict[str, Contender]:
    works = {}
    for name, contender in contenders.items():
        if isinstance(contender, Contender):
            works[name] = contender
        else:
            report.note(f"{name} is left out: {contender}")
    return works


def _cells(ours: Times, rival: Times | None) -> Row:
    """A rival that was not timed has dashes."""
    if rival is not None:
        return comparison(ours, rival)
    return {
        key: cell if key.startswith("ours") else "-" for key, cell in comparison(ours, ours).items()
    }


def _checked(trial: Trial, rival: str) -> Row:
    notes = [trial.notes[OURS] + " (ours)"] if OURS in trial.notes else []
    notes += [trial.notes[rival]] if rival in trial.notes else []
    return {
        "ours_error": f"{trial.errors[OURS]:.0e}",
        "rival_error": f"{trial.errors[rival]:.0e}" if rival in trial.errors else "-",
        "note": "; ".join(notes),
    }
