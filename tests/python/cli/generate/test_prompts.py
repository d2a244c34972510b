"""Reading and checking prompts, without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from masked_attn.cli.errors import BadInput
from masked_attn.cli.generate import prompts
from masked_attn.cli.generate.prompts import Prompt


def write(folder: Path, data: bytes) -> str:
    file = folder / "prompts.txt"
    file.write_bytes(data)
    return str(file)


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        (b"  kept \n", ["  kept "]),
        ("a\u2028b\x0bc\n".encode(), ["a\u2028b\x0bc"]),
        ("grüße 🐕\n".encode(), ["grüße 🐕"]),
    ],
)
def test_a_line_is_a_prompt_and_nothing_else_is_stripped(
    tmp_path: Path, data: bytes, texts: list[str]
) -> None:
    assert [prompt.text for prompt in prompts.from_file(write(tmp_path, data))] == texts


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "prompts.txt is empty"),
        (b"\xef\xbb\xbf", "prompts.txt is empty"),
        (b"\n", "prompts.txt line 1 is blank"),
        (b"one\n \t\ntwo\n", "prompts.txt line 2 is blank"),
        (b"one\n\n", "prompts.txt line 2 is blank"),
        (b"one\ntwo\nth\xffree\n", "prompts.txt line 3 is not valid UTF-8"),
        ("one\n".encode("utf-16"), "prompts.txt line 1 is not valid UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        prompts.from_file(write(tmp_path, data))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "nul\0byte", "no/such/file"])
def test_a_file_that_cannot_be_read_is_named(name: str) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        prompts.from_file(name)


def test_a_prompt_of_bytes_that_are_not_utf8_is_refused() -> None:
    argument = b"caf\xe9".decode(errors="surrogateescape")  # as Python hands it over
    with pytest.raises(BadInput, match="prompt 2 is not valid UTF-8"):
        prompts.from_arguments(["fine", argument])


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_blank_prompt_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="prompt 2 is blank"):
        prompts.from_arguments(["fine", text])


def test_a_prompt_without_tokens_is_refused() -> None:
    given = prompts.from_arguments(["a", "?"])
    with pytest.raises(BadInput, match=r"prompt 2 \('\?'\) gives no tokens.*mask"):
        prompts.encode(given, lambda texts: [[1], []])


def test_57_the_first_prompt_that_is_too_long_is_named_with_length_and_limit() -> None:
    given = prompts.from_arguments(["short", "long"])
    rows = [[1], [1] * 5]
    prompts.check_fit(given, rows, max_new_tokens=3, positions=8, vocabulary=9)
    with pytest.raises(BadInput) as caught:
        prompts.check_fit(given, rows, max_new_tokens=4, positions=8, vocabulary=9)
    for word in ("prompt 2", "'long'", "5 tokens", "4 new", "= 9", "limit is 8"):
        assert word in str(caught.value)


def test_a_tokenizer_of_another_model_is_noticed() -> None:
    given = prompts.from_arguments(["a"])
    prompts.check_fit(given, [[8]], max_new_tokens=1, positions=8, vocabulary=9)
    with pytest.raises(BadInput, match="token 9, the model knows 9"):
        prompts.check_fit(given, [[9]], max_new_tokens=1, positions=8, vocabulary=9)


def test_a_long_prompt_is_shortened_in_messages() -> None:
    assert str(Prompt("x" * 41, "prompt 1")) == f"prompt 1 ('{'x' * 37}...')"
    assert str(Prompt("x" * 40, "prompt 1")) == f"prompt 1 ('{'x' * 40}')"
