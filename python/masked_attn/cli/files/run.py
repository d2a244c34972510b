"""A file of lines in, one line out for each, in order: what ``generate`` and ``score`` share.

Line n of the output is always line n of the input; a line that cannot be used gets an ``error``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from masked_attn.cli.files.batching import batches_by_length, windows
from masked_attn.cli.files.records import Record
from masked_attn.cli.files.resume import Outcome
from masked_attn.cli.model.engine import Engine
from masked_attn.cli.model.rows import misfit
from masked_attn.cli.progress import Progress

__all__ = ["FileRun", "Sink", "Work"]


class Work(Protocol):
    """What is done with the token ids of prompts."""

    new_tokens: int  # that the context must have room for, beside the prompt

    def run(self, rows: list[list[int]], first_line: int) -> list[Outcome]:
        """The outcome of each row of a batch; ``first_line`` is its number, in any run."""

    def count(self, value: Any) -> None:
        """Add a value to the totals, also one that an earlier run wrote.

        Raises:
            BadInput: no run with these options wrote it.
        """

    def totals(self, lines: int) -> list[str]:
        """What is printed at the end, after ``lines`` lines."""


class Sink(Protocol):
    """Where outcomes go, in the order of the lines."""

    def earlier(self, record: Record) -> Outcome | None:
        """What an earlier run wrote for this line; after the first ``None`` always ``None``."""

    def write(self, record: Record, outcome: Outcome) -> None:
        """Write the outcome of the next line."""

    def check_end(self) -> None:
        """The input has ended."""


@dataclass
class FileRun:
    """One run over a file.

    Attributes:
        engine: the model and its tokenizer.
        work: what is done with each batch.
        sink: where outcomes go.
        shown: the progress bar.
        origin: name of the input, for messages.
        batch_size: the most prompts in a batch.
        lines, failed: lines so far, and those with an error, earlier runs included.
        batches: batches that this run ran.
    """

    engine: Engine
    work: Work
    sink: Sink
    shown: Progress
    origin: str
    batch_size: int
    lines: int = 0
    failed: int = 0
    batches: int = 0
    _ready: dict[int, Outcome] = field(default_factory=dict)

    def run(self, records: Iterator[Record]) -> None:
        """Work through all records."""
        for window in windows(records, self.batch_size):
            written = self._take_earlier(window)
            self.shown.already(written)
            if written < len(window):
                self._run_window(window, written)
        self.sink.check_end()

    def _take_earlier(self, window: list[Record]) -> int:
        """Number of lines of the window that an earlier run wrote."""
        for index, record in enumerate(window):
            outcome = self.sink.earlier(record)
            if outcome is None:
                return index
            self._count(outcome)
        return len(window)

    def _run_window(self, window: list[Record], written: int) -> None:
        """Run the batches of a window and write each line as soon as those before it are there.

        Lines that are on disk still take part in the batches, so that a resumed run computes what
        an uninterrupted one does, to the last bit; batches of nothing else are left out.
        """
        rows = self._encode(window)
        waiting = written
        for batch in batches_by_length(rows, self.batch_size):
            if max(batch) < written:
                continue
            first_line = window[min(batch)].number
            outcomes = self.work.run([rows[index] for index in batch], first_line)
            self.batches += 1
            self._ready.update(zip(batch, outcomes, strict=True))
            waiting = self._write_ready(window, waiting)
        self._write_ready(window, waiting)
        self._ready.clear()

    def _encode(self, window: list[Record]) -> dict[int, list[int]]:
        """Token ids by index in the window; lines that cannot be used become ready at once."""
        good = [index for index, record in enumerate(window) if not record.error]
        self._ready = {
            index: Outcome(error=record.error)
            for index, record in enumerate(window)
            if record.error
        }
        encoded = self.engine.encode([window[index].prompt for index in good]) if good else []
        rows = {}
        for index, row in zip(good, encoded, strict=True):
            config = self.engine.model.config
            reason = misfit(
                row, self.work.new_tokens, config.max_position_embeddings, config.vocab_size
            )
            if reason:
                self._ready[index] = Outcome(error=f"the prompt {reason}")
            else:
                rows[index] = row
        return rows

    def _write_ready(self, window: list[Record], waiting: int) -> int:
        """Write the lines from index ``waiting`` on that are ready; the index of the next."""
        while waiting in self._ready:
            record, outcome = window[waiting], self._ready.pop(waiting)
            self.sink.write(record, outcome)
            if outcome.error:
                line = f"{self.origin} line {record.number}: {outcome.error}"
                self.shown.note(f"masked_attn: {line}")
            self._count(outcome)
            self.shown.done(1)
            waiting += 1
        return waiting

    def _count(self, outcome: Outcome) -> None:
        self.lines += 1
        if outcome.error:
            self.failed += 1
        else:
            self.work.count(outcome.value)
