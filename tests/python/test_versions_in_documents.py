"""The versions that the documents call tested are those that the code and the build call tested."""

from __future__ import annotations

import re

import pytest
from support.documents import ROOT

VERSION = re.compile(r"\d+(?:\.\d+)+")


def row_of_the_readme(what: str) -> list[str]:
    """The versions in the second cell of a line of the table on the first screen."""
    (line,) = re.findall(rf"(?m)^\| {what} \|(.*?)\|", (ROOT / "README.md").read_text())
    return VERSION.findall(line)


def test_transformers() -> None:
    pytest.importorskip("transformers")
    from masked_attn.integrations.versions import TESTED

    assert row_of_the_readme("transformers") == list(TESTED)


def test_torch() -> None:
    (default,) = re.findall(r"(?m)^TORCH \?= torch==(.*)$", (ROOT / "Makefile").read_text())
    assert row_of_the_readme("torch") == [default]
