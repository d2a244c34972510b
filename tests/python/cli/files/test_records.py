"""Lines of a file as records: what is carried, and why a line cannot be used."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files import records
from masked_attn.cli.files.records import (
    LineFormat,
    Record,
    count_lines,
    is_jsonl,
    open_input,
    read_lines,
)

JSONL = LineFormat(jsonl=True, prompt_field="prompt", output_field="completion")
TEXT = LineFormat(jsonl=False, prompt_field="prompt", output_field="completion")


def read(data: bytes, line_format: LineFormat) -> list[Record]:
    lines = read_lines(io.BytesIO(data), "in")
    return list(records.read_records(lines, line_format))


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "a"}',
        '{"id":1.00,"prompt":"a","big":12345678901234567890,"small":1e-400}',
        '{"prompt": "a", "twice": 1, "twice": 2, "half": "\\ud800"}',
        '{"prompt": "a", "deep": {"list": [1, null, {"prompt": 3}]}, "grüße": "🐕\u2028"}',
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", " \t\n", ""])
def test_a_json_line_is_carried_byte_for_byte(line: str, end: str) -> None:
    (record,) = read((line + end).encode(), JSONL)
    assert record == Record(1, "a", line.encode()[:-1])


@pytest.mark.parametrize("text", ["a", "  kept ", 'quote " and \\', "grüße 🐕", "a\u2028b\x0bc"])
def test_a_text_line_is_carried_as_its_prompt(text: str) -> None:
    (record,) = read(text.encode() + b"\r\n", TEXT)
    assert (record.prompt, record.error) == (text, "")
    assert json.loads(record.carried + b"}") == {"prompt": text}


@pytest.mark.parametrize(
    ("line", "error", "carried"),
    [
        (b"word", "not valid JSON: Expecting value (column 1)", b"{"),
        (b'{"prompt": "a"', "not valid JSON", b"{"),
        (b'{"prompt": "a"} {}', "not valid JSON: Extra data (column 17)", b"{"),
        (b'{"prompt": "a", "x": NaN}', "not valid JSON: NaN", b"{"),
        (b'{"prompt": "a", "x": -Infinity}', "not valid JSON: -Infinity", b"{"),
        (b'{"prompt": "a", "x": ' + b"9" * 5000 + b"}", "not valid JSON", b"{"),
        (b"[" * 200_000, "not valid JSON", b"{"),
        (b"", "blank", b"{"),
        (b"  ", "blank", b"{"),
        (b"\xff", "not valid UTF-8", b"{"),
        (b"[1]", "not a JSON object", b"{"),
        (b"{}", 'no field "prompt"', b"{"),
        (b'{ "id": 1 }', 'no field "prompt"', b'{ "id": 1'),
        (b'{"prompt": 7}', '"prompt" is not a string', b'{"prompt": 7'),
        (b'{"prompt": null}', '"prompt" is not a string', b'{"prompt": null'),
        (b'{"prompt": ""}', "the prompt is blank", b'{"prompt": ""'),
        (b'{"prompt": " \\n"}', "the prompt is blank", b'{"prompt": " \\n"'),
        (b'{"prompt": "\\ud800"}', "the prompt is not valid Unicode", b'{"prompt": "\\ud800"'),
        (
            b'{"prompt": "a", "completion": 1}',
            "choose another with --output-field",
            b'{"prompt": "a", "completion": 1',
        ),
        (b'{"prompt": "a", "error": 1}', 'the field "error", which is the output\'s', b"{"),
    ],
)
def test_a_broken_json_line_says_why_and_the_rest_is_read(
    line: bytes, error: str, carried: bytes
) -> None:
    first, broken, last = read(b'{"prompt": "a"}\n' + line + b'\n{"prompt": "b"}\n', JSONL)
    assert (first.prompt, last.prompt, last.number) == ("a", "b", 3)
    assert (broken.prompt, broken.carried) == ("", carried)
    assert error in broken.error


@pytest.mark.parametrize(
    ("line", "error"), [(b"", "blank"), (b" \t", "blank"), (b"caf\xe9", "not valid UTF-8")]
)
def test_a_broken_text_line_says_why(line: bytes, error: str) -> None:
    _, broken, last = read(b"a\n" + line + b"\nb", TEXT)
    assert error in broken.error
    assert (last.prompt, last.number) == ("b", 3)


@pytest.mark.parametrize("line_format", [JSONL, TEXT])
def test_a_line_without_end_does_not_fill_the_memory(
    line_format: LineFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LONGEST_LINE", 20)
    data = b"x" * 200 + b'\n{"prompt": "a"}\n' + b"y" * 21
    first, second, third = read(data, line_format)
    assert first.error == third.error == "longer than 20 bytes"
    assert second.error == ""


def test_other_fields_can_hold_prompt_and_completion() -> None:
    line_format = LineFormat(jsonl=True, prompt_field="text", output_field="answer")
    (record,) = read(b'{"text": "a", "prompt": 1, "completion": 2}', line_format)
    assert (record.prompt, record.error) == ("a", "")


def test_lines_are_read_when_they_are_needed() -> None:
    stream = io.BytesIO(b"one\ntwo\nthree\n")
    lines: Iterator[bytes] = read_lines(stream, "in")
    assert stream.tell() == len(b"one\n")
    assert next(lines) == b"one\n"
    assert stream.tell() == len(b"one\n")


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadInput, match="in is empty"):
        read_lines(io.BytesIO(data), "in")


def test_the_mark_of_some_editors_is_not_part_of_the_first_line() -> None:
    first, second = read(b'\xef\xbb\xbf{"prompt": "a"}\n{"prompt": "b"}', JSONL)
    assert (first.prompt, second.prompt) == ("a", "b")


@pytest.mark.parametrize("name", ["", "nul\0byte", "no/such/file", "/"])
def test_a_file_that_cannot_be_read_is_named(name: str) -> None:
    with pytest.raises(BadInput, match="cannot read"), open_input(name):
        pass


@pytest.mark.parametrize(
    ("name", "chosen", "jsonl"),
    [
        ("a.jsonl", "auto", True),
        ("a.NDJSON", "auto", True),
        ("a.json", "auto", False),
        ("jsonl", "auto", False),
        ("-", "auto", False),
        ("-", "jsonl", True),
        ("a.jsonl", "text", False),
    ],
)
def test_the_suffix_decides_unless_told(name: str, chosen: str, jsonl: bool) -> None:
    assert is_jsonl(name, chosen) is jsonl


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3), (b"x" * 3 * 2**20 + b"\ny\n", 2)],
)
def test_lines_of_a_file_are_counted_and_still_there(
    tmp_path: Path, data: bytes, lines: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    with open_input(str(file)) as stream:
        assert count_lines(stream) == lines
        assert stream.read() == data


def test_lines_that_were_read_are_not_counted(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a\nb\nc\n")
    with open_input(str(file)) as stream:
        stream.readline()
        assert count_lines(stream) == 2


def test_nobody_knows_the_lines_of_a_pipe() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb"):
        assert count_lines(stream) is None


def test_a_standard_input_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that call ``main`` may have replaced it; then there is nothing to compare."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello\n")))
    with open_input("-") as stream:
        assert stream.read() == b"hello\n"
