"""Lines of an earlier run, against the records of the input."""

from __future__ import annotations

import io
import json

import pytest

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.records import LineFormat, Record
from masked_attn.cli.files.resume import Earlier, Outcome, output_line

LINES = LineFormat(jsonl=True, prompt_field="prompt", output_field="completion")
ONE = LINES.parse(1, b'{"prompt": "a", "id": 1}')
TWO = LINES.parse(2, b'{"prompt": "b"}')
BROKEN = LINES.parse(2, b"broken")


def earlier(data: bytes) -> Earlier:
    return Earlier(io.BytesIO(data), "out", "completion")


@pytest.mark.parametrize("record", [ONE, TWO, BROKEN])
@pytest.mark.parametrize(
    "outcome", [Outcome("x\n\u2028 \ud800 grüße"), Outcome(["a", "b"]), Outcome(error='no "x"')]
)
def test_what_is_written_is_valid_json_and_read_again(record: Record, outcome: Outcome) -> None:
    if record.error and not outcome.error:
        return
    line = output_line(record, "completion", outcome)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    fields = json.loads(line)
    assert fields.get("completion") == outcome.value
    assert fields.get("error", "") == outcome.error
    before = earlier(line)
    assert before.outcome(record) == outcome
    assert (before.lines, before.size) == (1, len(line))
    before.check_end()


def test_every_torn_end_of_our_line_may_go() -> None:
    whole = output_line(ONE, "completion", Outcome("x"))
    for outcome in (Outcome("y"), Outcome(error="z")):
        torn = output_line(TWO, "completion", outcome)[:-1]
        for length in range(len(torn) + 1):
            before = earlier(whole + torn[:length])
            assert before.outcome(ONE) == Outcome("x")
            assert before.outcome(TWO) is None
            assert (before.lines, before.size) == (1, len(whole))
            assert before.outcome(TWO) is None
            before.check_end()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"word",
        b'{"prompt": "b"}',
        b'{"prompt": "b", "id": 1, "completion": "x"}',
        b'{"prompt": "a", "id": 1}',
        b'{"prompt": "a", "id": 1, "score": 1}',
        b'{"prompt": "a", "id": 1, "completion": "x", "more": 1}',
        b'{"prompt": "a", "id": 12, "completion": "x"}',
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
def test_the_line_of_another_input_is_refused(line: bytes, end: bytes) -> None:
    if not line + end:
        return
    if end == b"" and line.startswith(b'{"prompt": "a", "id": 1, "completion"'):
        return  # a torn line of ours can hold anything after the field
    with pytest.raises(BadInput, match="line 1 of out does not belong to line 1 of the input"):
        earlier(line + end).outcome(ONE)


def test_a_broken_line_has_an_error_in_the_output() -> None:
    with pytest.raises(BadInput, match="line 2 of out"):
        earlier(b'{"completion": "x"}\n').outcome(BROKEN)


def test_an_output_longer_than_the_input_is_refused() -> None:
    whole = output_line(ONE, "completion", Outcome("x"))
    before = earlier(whole + b"more")
    before.outcome(ONE)
    with pytest.raises(BadInput, match="more lines than the input"):
        before.check_end()


def test_without_an_earlier_run_nothing_is_there() -> None:
    nothing = Earlier(None, "", "completion")
    assert nothing.outcome(ONE) is None
    nothing.check_end()
