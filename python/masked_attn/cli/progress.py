"""A progress bar on stderr, only where one helps: a terminal, and more than one batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = ["Progress", "can_be_seen", "progress"]


class Progress:
    """Counts prompts that are done and keeps printed lines apart from the bar, if there is one."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def done(self, prompts: int) -> None:
        if self._bar is not None:
            self._bar.update(prompts)

    def already(self, prompts: int) -> None:
        """Count prompts of an earlier run: the bar starts behind them, their time is not known."""
        if self._bar is not None:
            self._bar.initial += prompts
            self._bar.n += prompts
            self._bar.refresh()

    def print(self, text: str) -> None:
        self._apart(text, sys.stdout)

    def note(self, text: str) -> None:
        """Print a line on stderr."""
        self._apart(text, sys.stderr)

    def _apart(self, text: str, stream: TextIO) -> None:
        if self._bar is not None:
            self._bar.clear()
        print(text, file=stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()


def can_be_seen(stream: TextIO | None = None) -> bool:
    """Whether ``stream`` (stderr) is a terminal."""
    stream = sys.stderr if stream is None else stream
    return stream is not None and stream.isatty()


@contextmanager
def progress(
    prompts: int | None, batches: int, stream: TextIO | None = None, *, unit: str = "prompt"
) -> Iterator[Progress]:
    """A progress bar, drawn when ``stream`` (stderr) is a terminal.

    Args:
        prompts: how many there are; ``None`` when nobody knows yet.
        batches: no bar for fewer than two.
        stream: where it is drawn.
        unit: what is counted, if not prompts.

    Example:
        >>> with progress(prompts=2, batches=1) as shown:
        ...     shown.print("a line")
        a line
    """
    stream = sys.stderr if stream is None else stream
    if batches < 2 or not can_be_seen(stream):
        yield Progress()
        return
    from tqdm import tqdm

    with tqdm(total=prompts, unit=unit, file=stream, leave=False) as bar:
        yield Progress(bar)
