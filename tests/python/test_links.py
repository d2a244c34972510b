"""What the Markdown files point at: files, headings of other files, paths in backticks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.documents import FOLDERS, ROOT, documents, without_blocks

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
OWN_PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]+)`")
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


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_in_the_text_exist(path: Path) -> None:
    for name in OWN_PATH.findall(without_blocks(path.read_text())):
        assert list(ROOT.glob(name.rstrip("/"))), f"there is no {name}"


def test_there_are_links_to_look_at() -> None:
    assert len(links_of(ROOT / "README.md")) > 10
    assert any("#" in link for path in documents() for link in links_of(path))
