"""Links between the Markdown files: the file is there, and so is the heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.documents import ROOT, documents, without_blocks

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"(?m)^#+ (.+)$")


def anchors_of(path: Path) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, blanks as hyphens."""
    headings = HEADING.findall(without_blocks(path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of(path: Path) -> list[str]:
    found = LINK.findall(without_blocks(path.read_text()))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links(path: Path) -> None:
    for link in links_of(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"there is no {link}"
        assert not anchor or anchor in anchors_of(target), f"there is no heading {link}"


def test_there_are_links_to_look_at() -> None:
    assert len(links_of(ROOT / "README.md")) > 10
    assert any("#" in link for path in documents() for link in links_of(path))
