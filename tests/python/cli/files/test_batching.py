"""Windows and batches: bounded, complete, of similar lengths, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masked_attn.cli.files import batching
from masked_attn.cli.files.batching import batches_by_length, windows
from masked_attn.cli.files.records import Record


def endless() -> Iterator[Record]:
    number = 0
    while True:
        number += 1
        yield Record(number, "a", b'{"prompt": "a"')


def test_a_window_is_a_number_of_batches_and_no_more_is_read() -> None:
    records = endless()
    first = next(windows(records, batch_size=3))
    assert [record.number for record in first] == list(range(1, 97))
    assert next(records).number == 97


def test_large_lines_make_a_window_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WINDOW_BYTES", 40)
    cut = windows(endless(), batch_size=3)
    assert [len(next(cut)) for _ in range(3)] == [3, 3, 3]


def test_the_last_window_holds_the_rest() -> None:
    some = [record for record, _ in zip(endless(), range(70), strict=False)]
    assert [len(window) for window in windows(some, batch_size=1)] == [32, 32, 6]


@given(
    st.dictionaries(st.integers(0, 500), st.lists(st.just(7), min_size=1, max_size=30)),
    st.integers(1, 9),
)
def test_batches_hold_every_row_once_and_do_not_overlap_in_length(
    rows: dict[int, list[int]], size: int
) -> None:
    batches = batches_by_length(rows, size)
    assert sorted(key for batch in batches for key in batch) == sorted(rows)
    assert all(0 < len(batch) <= size for batch in batches)
    assert [min(batch) for batch in batches] == sorted(min(batch) for batch in batches)
    spans = sorted((len(rows[batch[0]]), len(rows[batch[-1]])) for batch in batches)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
