"""Refuses files that a command would read and write at once, or write twice.

Names do not tell: links, ``/dev/stdin`` and the shell's ``>>`` lead to one file under many of them.
So device and inode of what is really open are compared.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import TextIO

from masked_attn.cli.errors import BadInput

__all__ = ["check_apart", "check_input", "check_output"]


def check_input(file: int, name: str) -> None:
    """Refuse an input that this process also prints to: it would grow under its reader.

    Args:
        file: descriptor of the open input.
        name: of the input, for messages.

    Raises:
        BadInput: standard output or standard error goes to the input.
    """
    _check(file, f"{name} is the input")


def check_output(file: int | str, name: str) -> None:
    """Refuse an output that this process also prints to: lines and messages would mix.

    Args:
        file: descriptor of the open output, or its path; nothing need be there.
        name: of the output, for messages.

    Raises:
        BadInput: standard output or standard error goes to the output.
    """
    _check(file, f"{name} is an output")


def check_apart(first: str, second: str, what: str) -> None:
    """Refuse two names of one file.

    Args:
        first, second: names of outputs; the files need not exist.
        what: the options that name them, for the message.

    Raises:
        BadInput: both names lead to one file.
    """
    if os.path.realpath(first) == os.path.realpath(second) or _samefile(first, second):
        raise BadInput(f"{what} are the same file: {first}")


def _check(file: int | str, what: str) -> None:
    for stream, descriptor in _printed():
        if _same(file, descriptor):
            raise BadInput(f"{what}, and {stream} goes to the same file")


def _printed() -> Iterator[tuple[str, int]]:
    """Names and descriptors of what this process prints to."""
    streams: tuple[tuple[str, TextIO | None], ...] = (
        ("standard output", sys.stdout),
        ("standard error", sys.stderr),
    )
    for name, stream in streams:
        try:
            if stream is not None:
                yield name, stream.fileno()
        except (OSError, ValueError):  # replaced by an object without a descriptor
            continue


def _same(file: int | str, descriptor: int) -> bool:
    """Whether both are one file or one pipe; a terminal may be read and written."""
    try:
        one, other = os.stat(file), os.fstat(descriptor)
    except (OSError, ValueError):  # closed, or not there
        return False
    kept = stat.S_ISREG(one.st_mode) or stat.S_ISFIFO(one.st_mode)
    return kept and os.path.samestat(one, other)


def _samefile(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):  # one of them is not there
        return False
