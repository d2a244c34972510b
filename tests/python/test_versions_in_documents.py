"""The versions that the documents call tested are those of ``masked_attn.tested``."""

from __future__ import annotations

import re

from support.documents import ROOT

from masked_attn.tested import TORCH, TRANSFORMERS

VERSION = re.compile(r"\d+(?:\.\d+)+")


def row_of_the_readme(what: str) -> list[str]:
    """The versions in the second cell of a line of the table on the first screen."""
    (line,) = re.findall(rf"(?m)^\| {what} \|(.*?)\|", (ROOT / "README.md").read_text())
    return VERSION.findall(line)


def test_transformers() -> None:
    assert row_of_the_readme("transformers") == list(TRANSFORMERS)


def test_torch() -> None:
    assert row_of_the_readme("torch") == list(TORCH)


def test_the_cap_of_transformers() -> None:
    said = re.findall(r"stops below ([\d.]*\d)", (ROOT / "README.md").read_text())
    caps = re.findall(r'"transformers>=.*?,<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert set(said) == set(caps) != set()
