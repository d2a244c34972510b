"""Cuts a stream of records into windows, and a window into batches of prompts of similar length.

Both depend on the input and the batch size alone, never on what was done before: a run that is
resumed makes the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from masked_attn.cli.files.records import Record

__all__ = ["batches_by_length", "windows"]

WINDOW_BATCHES = 32
WINDOW_BYTES = 32 * 2**20


def windows(records: Iterable[Record], batch_size: int) -> Iterator[list[Record]]:
    """Records in groups of ``WINDOW_BATCHES`` batches, fewer when they are large.

    What is sorted, and what waits to be written, is at most one window: memory does not grow with
    the input.
    """
    window: list[Record] = []
    size = 0
    for record in records:
        window.append(record)
        size += record.size
        if len(window) == WINDOW_BATCHES * batch_size or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def batches_by_length(rows: Mapping[int, Sequence[int]], batch_size: int) -> list[list[int]]:
    """Keys of rows in batches of similar length, so that little is padded.

    Args:
        rows: key to token ids.
        batch_size: the most rows in a batch.

    Returns:
        The batches; the one with the smallest key comes first, so that lines can be written early.

    Example:
        >>> batches_by_length({0: [5, 6, 7], 1: [5], 2: [5, 6], 3: [5, 6, 7, 8]}, 2)
        [[0, 3], [1, 2]]
    """
    order = sorted(rows, key=lambda key: (len(rows[key]), key))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return sorted(batches, key=min)
