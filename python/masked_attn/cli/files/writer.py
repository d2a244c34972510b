"""Writes an output file of whole lines, each with one write call.

A line that the disk does not take is taken back, so that the file never ends in half a line; only
a kill in the middle of a write can leave one, which ``--resume`` drops.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.same_file import check_output

__all__ = ["LineWriter", "open_output"]


class LineWriter:
    """Lines of one output file.

    Attributes:
        name: of the file, for messages.
        lines: number of whole lines that the file holds; ``None`` before ``start_after``.
    """

    def __init__(self, descriptor: int, name: str, *, is_file: bool) -> None:
        self.name = name
        self.lines: int | None = None
        self._descriptor = descriptor
        self._is_file = is_file
        self._size = 0

    def start_after(self, lines: int, size: int) -> None:
        """Keep the first lines of the file, ``size`` bytes in all; drop what follows them."""
        self.lines, self._size = lines, size
        self._take_back()

    def write(self, line: bytes) -> None:
        """Append a line with its end.

        Raises:
            BadInput: the disk is full or the file cannot be written.
        """
        try:
            rest = memoryview(line)
            while rest:  # one turn, unless the disk is full or the output is a pipe
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException as error:
            self._take_back()
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                _cannot_write(self.name, error, f"; {self.state()}")
            raise
        self._size += len(line)
        self.lines = (self.lines or 0) + 1

    def state(self) -> str:
        """One phrase: how far the file is."""
        if self.lines is None:
            return "nothing was written"
        if not self._is_file:
            return f"{self.lines} lines were written"
        return f"{self.name} holds {self.lines} whole lines; --resume continues"

    def _take_back(self) -> None:
        if self._is_file:
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)


@contextmanager
def open_output(
    name: str, *, may_hold: bool, file_only: bool, input_descriptor: int
) -> Iterator[LineWriter]:
    """Open a file for writing and lock it; what it holds stays until ``start_after``.

    Args:
        name: path of the file; ``-`` is stdout.
        may_hold: the file may hold something.
        file_only: refuse what is no file: a pipe, a device.
        input_descriptor: of the input, which must be another file.

    Raises:
        BadInput: the file cannot be written, holds something although it may not, is the input, or
            is being written by another process.
    """
    if name == "-":
        if sys.stdout is None:
            raise BadInput("cannot write stdout: it is closed")
        sys.stdout.flush()
        yield LineWriter(sys.stdout.fileno(), "stdout", is_file=False)
        return
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        _cannot_write(name, error)
    try:
        status = os.fstat(descriptor)
        is_file = stat.S_ISREG(status.st_mode)
        if os.path.samestat(status, os.fstat(input_descriptor)) and not stat.S_ISCHR(
            status.st_mode
        ):
            raise BadInput(f"{name} is the input and the output")
        check_output(descriptor, name)
        if is_file:
            _lock(descriptor, name)
            if status.st_size and not may_hold:
                raise BadInput(f"{name} exists: give --resume to continue it, or --overwrite")
        elif file_only:
            raise BadInput(f"--resume needs a file, {name} is something else")
        yield LineWriter(descriptor, name, is_file=is_file)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        os.close(descriptor)  # some file systems report a full disk only here
    except OSError as error:
        _cannot_write(name, error)


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"{name} is being written by another process") from None
    except OSError:
        pass  # a file system without locks


def _cannot_write(name: str, error: Exception, more: str = "") -> NoReturn:
    reason = getattr(error, "strerror", None) or error
    raise BadInput(f"cannot write {name}: {reason}{more}") from error
