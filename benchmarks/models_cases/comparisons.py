"""Ours against each rival, a row for each."""

from __future__ import annotations

from collections.abc import Mapping

from common.report import Table, comparison
from common.timing import Times
from common.trial import OURS

__all__ = ["add_rows"]


def add_rows(table: Table, case: str, times: Mapping[str, Times]) -> None:
    """Rows of one case for a table with the columns of ``COMPARISON``."""
    for rival, its in times.items():
        if rival != OURS:
            table.add({"case": case, "rival": rival, **comparison(times[OURS], its)})
