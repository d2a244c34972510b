"""The table of ``docs/features.md`` as Markdown, between two marks of that page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hf.features.families import GROUPS
from hf.features.feature import STOCK, Feature
from hf.features.table import SECTIONS

PAGE = Path(__file__).resolve().parents[4] / "docs" / "features.md"
BEGIN = "<!-- The table: written by `make feature-table`, from tests/python/hf/features. -->"
END = "<!-- The end of the table. -->"
HEAD = "| feature | families | what runs | note |\n|---|---|---|---|\n"


def page(text: str) -> str:
    """The page with the table of today.

    Raises:
        ValueError: the page has not each mark once.
    """
    for mark in (BEGIN, END):
        if text.count(mark) != 1:
            raise ValueError(f"{PAGE.name} must have this line once: {mark}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{rest.split(END)[1]}"


def table() -> str:
    """What the groups of families are, then one table for each section."""
    groups = [f"{group.label.capitalize()}: {', '.join(group.names)}.\n" for group in GROUPS]
    return "\n".join([*groups, *(_section(*section) for section in SECTIONS.items())])


def _section(heading: str, rows: Mapping[str, Feature]) -> str:
    lines = [_line(text, row.families.label, _ran(row), _note(row)) for text, row in rows.items()]
    return f"### {heading}\n\n{HEAD}{''.join(lines)}"


def _line(*cells: str) -> str:
    return (
        "".join(f"| {cell.replace('|', chr(92) + '|')} " if cell else "| " for cell in cells)
        + "|\n"
    )


def _ran(row: Feature) -> str:
    """Paths and reasons; then those of the families where they are others."""
    return _with_others(row, _paths)


def _paths(row: Feature) -> str:
    paths = ", ".join(f"`{path}`" for path in row.paths)
    whys = " or ".join(f"`{why}`" for why in row.why)
    return f"{paths}: {whys}" if STOCK in row.paths else paths


def _note(row: Feature) -> str:
    return _with_others(row, lambda each: each.note)


def _with_others(row: Feature, text: Callable[[Feature], str]) -> str:
    """The text of a row; then those of the families that have another."""
    others: dict[str, list[str]] = {}
    for family in row.differs:
        others.setdefault(text(row.on(family)), []).append(family)
    others.pop(text(row), None)
    parts = [text(row), *(f"{', '.join(names)}: {other}" for other, names in others.items())]
    return "; ".join(part for part in parts if part)
