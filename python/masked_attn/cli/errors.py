"""What the command line tells a user whose input cannot be used."""

from __future__ import annotations

__all__ = ["BadInput", "Terminated", "first_line", "reason"]


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


def reason(error: BaseException) -> str:
    """One short line that says what went wrong: the type of an error and its first line.

    Example:
        >>> reason(ValueError("no such dtype\\nlong advice"))
        'ValueError: no such dtype'
    """
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line[:150]}"
