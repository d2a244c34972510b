"""Ties each guard of a private interface to its line in ``docs/private_interfaces.md``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "private_interfaces.md"
HEAD = ["interface", "used in", "what would break", "guard", "when it breaks"]


def lines_of_the_page() -> dict[str, dict[str, str]]:
    """Lines of all tables by the name of their guard; a cell by the head of its column."""
    lines = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and cells != HEAD and set(line) - set("|-: "):
            named = dict(zip(HEAD, cells, strict=True))
            guard = named["guard"].strip("`")
            assert guard not in lines, f"two lines for {guard}"
            lines[guard] = named
    return lines


def guard(test: Callable[..., None]) -> Callable[..., None]:
    """A test of an interface of others: whatever it fails with, it says what to do about it."""

    @functools.wraps(test)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            test(*args, **kwargs)
        except Exception as error:
            line = lines_of_the_page()[test.__name__]
            raise AssertionError(
                f"{line['interface']} is not what {line['used in']} relies on ({error}). "
                f"What to do: {line['when it breaks']} (docs/{PAGE.name})"
            ) from error

    return guarded
