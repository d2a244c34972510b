"""What the command line tells a user whose input cannot be used."""

from __future__ import annotations

__all__ = ["BadInput", "Terminated", "first_line"]


class BadInput(Exception):
    """Input that cannot be used. Its message is the one line that the user sees (exit status 2)."""


class Terminated(BaseException):
    """SIGTERM came. Its message says how far the output is."""


def first_line(error: BaseException) -> str:
    """The first non-empty line of an error's message, or the name of its type.

    Example:
        >>> first_line(OSError("no such file\\nlong advice"))
        'no such file'
    """
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()
    return type(error).__name__
