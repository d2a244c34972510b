"""The Markdown files of the project, and the fenced blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("benchmarks", "csrc", "docs", "examples", "python", "tests", "tools")
FENCE = re.compile(r"( *)(`{3,}|~{3,})(.*)")


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    document: str  # path from the root of the project
    line: int  # of the first fence
    language: str  # "" where the fence names none
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Every Markdown file in the sources, found by its ending: none has to be listed."""
    found = list(ROOT.glob("*.md"))
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def blocks_in(text: str, document: str) -> list[Block]:
    """The fenced blocks of a text, without the indentation of their fence."""
    blocks = []
    opened: re.Match[str] | None = None
    start, inside = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.fullmatch(line)
        if opened is None:
            if fence:
                opened, start, inside = fence, number, []
        elif fence and fence[2].startswith(opened[2]) and not fence[3].strip():
            language = opened[3].strip()
            blocks.append(Block(document, start, language, "".join(f"{x}\n" for x in inside)))
            opened = None
        else:
            inside.append(line.removeprefix(opened[1]))
    assert opened is None, f"{document}:{start}: this fence is never closed"
    return blocks


def all_blocks() -> list[Block]:
    """The blocks of all documents."""
    found = []
    for path in documents():
        found += blocks_in(path.read_text(), path.relative_to(ROOT).as_posix())
    return found


def without_blocks(text: str) -> str:
    """The text around the fenced blocks, with a blank line for each of theirs."""
    lines = text.splitlines()
    for block in blocks_in(text, ""):
        length = block.text.count("\n") + 2
        lines[block.line - 1 : block.line - 1 + length] = [""] * length
    return "\n".join(lines)
