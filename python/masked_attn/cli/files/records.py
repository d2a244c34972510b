"""Reads a file line by line, when a line is needed. One that cannot be used comes with the reason.

What a line carries is kept as the bytes that the user wrote: nothing is parsed and printed again.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.same_file import check_input

__all__ = [
    "ERROR_FIELD",
    "LONGEST_LINE",
    "LineFormat",
    "Record",
    "count_lines",
    "is_jsonl",
    "open_input",
    "read_lines",
    "read_records",
    "shown_name",
]

ERROR_FIELD = "error"
LONGEST_LINE = 16 * 2**20  # bytes; a file without line ends must not fill the memory
COUNTED_BYTES = 2**20  # at once, when lines are counted
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors put it first
JSON_SPACE = b" \t\r\n"


@dataclass(frozen=True)
class Record:
    """One line of the input.

    Attributes:
        number: of the line, from 1.
        prompt: the text for the model; empty when ``error`` is not.
        carried: the JSON object of the output without its closing brace.
        error: why the line cannot be used; empty when it can.
    """

    number: int
    prompt: str
    carried: bytes
    error: str = ""

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return len(self.carried) + len(self.prompt)


@dataclass(frozen=True)
class LineFormat:
    """How a line becomes a record: JSONL or text, and the fields that hold prompt and result."""

    jsonl: bool
    prompt_field: str
    output_field: str

    def parse(self, number: int, line: bytes) -> Record:
        """The record of a line.

        Example:
            >>> lines = LineFormat(jsonl=True, prompt_field="prompt", output_field="completion")
            >>> lines.parse(1, b'{"id": 7, "prompt": "a"}').carried
            b'{"id": 7, "prompt": "a"'
        """
        if len(line) > LONGEST_LINE:
            return Record(number, "", b"{", f"longer than {LONGEST_LINE} bytes")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            return Record(number, "", b"{", "not valid UTF-8")
        return self._json(number, text) if self.jsonl else self._text(number, text)

    def _text(self, number: int, line: str) -> Record:
        text = line.removesuffix("\n").removesuffix("\r")
        carried = json.dumps({self.prompt_field: text}, ensure_ascii=False)[:-1].encode()
        return _checked(Record(number, text, carried))

    def _json(self, number: int, line: str) -> Record:
        if not line.strip():
            return Record(number, "", b"{", "blank")
        try:
            fields = json.loads(line, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            reason = f"not valid JSON: {error.msg} (column {error.colno})"
            return Record(number, "", b"{", reason)
        except (ValueError, RecursionError) as error:  # a huge number, NaN, very deep nesting
            return Record(number, "", b"{", f"not valid JSON: {error}")
        if not isinstance(fields, dict):
            return Record(number, "", b"{", "not a JSON object")
        carried = line.encode().strip(JSON_SPACE)[:-1].rstrip(JSON_SPACE)
        if ERROR_FIELD in fields:
            return Record(
                number, "", b"{", f'holds the field "{ERROR_FIELD}", which is the output\'s'
            )
        if self.output_field in fields:
            reason = f'holds the field "{self.output_field}": choose another with --output-field'
            return Record(number, "", carried, reason)
        if self.prompt_field not in fields:
            return Record(number, "", carried, f'no field "{self.prompt_field}"')
        prompt = fields[self.prompt_field]
        if not isinstance(prompt, str):
            return Record(number, "", carried, f'"{self.prompt_field}" is not a string')
        return _checked(Record(number, prompt, carried))


def is_jsonl(name: str, chosen: str) -> bool:
    """Whether a file holds JSONL: ``chosen`` says so, or is ``"auto"`` and the suffix does.

    Example:
        >>> is_jsonl("prompts.jsonl", "auto"), is_jsonl("-", "auto"), is_jsonl("-", "jsonl")
        (True, False, True)
    """
    if chosen != "auto":
        return chosen == "jsonl"
    return Path(name).suffix.lower() in (".jsonl", ".ndjson")


def count_lines(stream: BinaryIO) -> int | None:
    """Number of lines from here to the end of a file; ``None`` for a pipe or a terminal.

    What is read next stays as it is: the file is read at other places than its own.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = stream.fileno()
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    place, lines, block = stream.tell(), 0, b"\n"
    while data := os.pread(descriptor, COUNTED_BYTES, place):
        place, block = place + len(data), data
        lines += data.count(b"\n")
    return lines + (not block.endswith(b"\n"))


def read_records(lines: Iterator[bytes], line_format: LineFormat) -> Iterator[Record]:
    """One record for each line."""
    for number, line in enumerate(lines, 1):
        yield line_format.parse(number, line)


def read_lines(stream: BinaryIO, shown: str) -> Iterator[bytes]:
    """Lines with their ends, read when they are needed; what is too long comes cut.

    Only a newline ends a line: Unicode has more line ends, which belong to the prompt.

    Args:
        stream: the open input.
        shown: its name, for messages.

    Raises:
        BadInput: at once, when the file is empty; later, when it cannot be read.
    """
    first = _read_line(stream, shown).removeprefix(BYTE_ORDER_MARK)
    if not first:
        raise BadInput(f"{shown} is empty: it must hold one prompt a line")
    rest = iter(lambda: _read_line(stream, shown), b"")
    return chain([first], rest)


@contextmanager
def open_input(name: str) -> Iterator[BinaryIO]:
    """Open a file for reading; ``-`` is stdin.

    Raises:
        BadInput: it cannot be opened, or this process prints to it.
    """
    if name == "-":
        if sys.stdin is None:
            raise BadInput("cannot read stdin: it is closed")
        with suppress(OSError, ValueError):  # replaced by one without a descriptor
            check_input(sys.stdin.fileno(), shown_name(name))
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - errors of the block are not errors of opening
    except (OSError, ValueError) as error:
        _cannot_read(name, error)
    with stream:
        check_input(stream.fileno(), name)
        yield stream


def shown_name(name: str) -> str:
    """The name of an input in messages."""
    return "stdin" if name == "-" else name


def _read_line(stream: BinaryIO, shown: str) -> bytes:
    try:
        line = stream.readline(LONGEST_LINE + 1)
        end = line
        while len(end) > LONGEST_LINE and not end.endswith(b"\n"):
            end = stream.readline(LONGEST_LINE + 1)
    except OSError as error:
        _cannot_read(shown, error)
    return line


def _cannot_read(shown: str, error: Exception) -> NoReturn:
    reason = getattr(error, "strerror", None) or error
    raise BadInput(f"cannot read {shown}: {reason}") from error


def _checked(record: Record) -> Record:
    """The record, unless its prompt is no text that a tokenizer takes."""
    try:
        record.prompt.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        return Record(record.number, "", record.carried, "the prompt is not valid Unicode")
    if not record.prompt.strip():
        return Record(record.number, "", record.carried, "the prompt is blank")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
