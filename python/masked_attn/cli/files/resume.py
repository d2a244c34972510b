"""The lines of an output file: how one is made, and those of an earlier run, checked one by one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.records import ERROR_FIELD, Record
from masked_attn.cli.files.writer import LineWriter

__all__ = ["Earlier", "JsonLines", "Outcome", "output_line"]


@dataclass(frozen=True)
class Outcome:
    """What became of a line: a value for the output, or an error."""

    value: Any = None
    error: str = ""


class Earlier:
    """Reads the lines of an earlier run, in step with the records of the input.

    Attributes:
        lines, size: number of whole lines that were read, and their bytes.
        ended: no more whole lines.
    """

    def __init__(self, stream: BinaryIO | None, name: str, field: str) -> None:
        self.lines = 0
        self.size = 0
        self.ended = stream is None
        self._stream = stream
        self._name = name
        self._field = field

    def outcome(self, record: Record) -> Outcome | None:
        """What the earlier run wrote for a record; ``None`` from the first that it did not write.

        Raises:
            BadInput: the line on disk is not this record's.
        """
        if self._stream is None or self.ended:
            return None
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            self.ended = True
            self._check_torn(record, line)
            return None
        found = self._parse(record, line)
        self.lines += 1
        self.size += len(line)
        return found

    def check_end(self) -> None:
        """Refuse an output that goes on after the end of the input."""
        if self._stream is not None and not self.ended and self._stream.readline():
            raise BadInput(f"{self._name} holds more lines than the input: nothing was changed")

    def _parse(self, record: Record, line: bytes) -> Outcome:
        added = line[len(record.carried) :].removeprefix(b", ")
        try:
            fields = json.loads(b"{" + added)
        except (ValueError, RecursionError):
            self._refuse(record)
        known = {ERROR_FIELD} if record.error else {ERROR_FIELD, self._field}
        if not line.startswith(record.carried) or len(fields) != 1 or not fields.keys() <= known:
            self._refuse(record)
        return Outcome(fields.get(self._field), fields.get(ERROR_FIELD, ""))

    def _check_torn(self, record: Record, line: bytes) -> None:
        """What a kill left of a line may be dropped, another file's text may not."""
        for key in (self._field, ERROR_FIELD):
            start = _before_value(record, key)
            if start[: len(line)] == line[: len(start)]:
                return
        self._refuse(record)

    def _refuse(self, record: Record) -> NoReturn:
        raise BadInput(
            f"cannot resume: line {record.number} of {self._name} does not belong to line "
            f"{record.number} of the input; nothing was changed"
        )


class JsonLines:
    """The sink of a run that writes a file."""

    def __init__(self, writer: LineWriter, earlier: Earlier, output_field: str) -> None:
        self._writer = writer
        self._earlier = earlier
        self._field = output_field
        self._started = False

    def earlier(self, record: Record) -> Outcome | None:
        outcome = self._earlier.outcome(record)
        if outcome is None:
            self._start()
        return outcome

    def write(self, record: Record, outcome: Outcome) -> None:
        self._writer.write(output_line(record, self._field, outcome))

    def check_end(self) -> None:
        self._earlier.check_end()

    def _start(self) -> None:
        """Nothing in the file changes before all that an earlier run wrote was checked."""
        if not self._started:
            self._writer.start_after(self._earlier.lines, self._earlier.size)
            self._started = True


def output_line(record: Record, field: str, outcome: Outcome) -> bytes:
    """The line of the output: what the input line carried, and the outcome.

    Example:
        >>> record = Record(1, "a", b'{"prompt": "a"')
        >>> output_line(record, "completion", Outcome(value=" b"))
        b'{"prompt": "a", "completion": " b"}\\n'
    """
    key, value = (ERROR_FIELD, outcome.error) if outcome.error else (field, outcome.value)
    return _before_value(record, key) + _json(value) + b"}\n"


def _before_value(record: Record, key: str) -> bytes:
    between = b"" if record.carried == b"{" else b", "
    return record.carried + between + _json(key) + b": "


def _json(value: Any) -> bytes:
    # Half of a surrogate pair, which UTF-8 cannot hold, becomes the escape that JSON has for it.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")
