"""The words of ``info`` on the command line."""

from __future__ import annotations

from typing import Any

__all__ = ["add_info"]


def add_info(commands: Any) -> None:
    """Add the parser of ``info``."""
    parser = commands.add_parser(
        "info",
        help="versions, what was built, what this machine uses, and a self-check",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
