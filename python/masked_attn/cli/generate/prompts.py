"""Reads prompts and checks them, all of them before any work: each message names its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.records import LONGEST_LINE, open_input, read_lines, shown_name
from masked_attn.cli.model.rows import NO_TOKENS, misfit

__all__ = ["Prompt", "check_fit", "encode", "from_arguments", "from_file"]

SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Prompt:
    """A prompt and where it came from, for messages."""

    text: str
    origin: str

    def __str__(self) -> str:
        text = self.text
        shown = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
        return f"{self.origin} ({shown!r})"


def from_arguments(texts: Sequence[str]) -> list[Prompt]:
    """Prompts of the command line.

    Raises:
        BadInput: a prompt is blank, or its bytes were not UTF-8.

    Example:
        >>> from_arguments(["My dog is"])
        [Prompt(text='My dog is', origin='prompt 1')]
    """
    prompts = [Prompt(text, f"prompt {number}") for number, text in enumerate(texts, 1)]
    for prompt in prompts:
        try:
            prompt.text.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{prompt.origin} is not valid UTF-8") from None
        _refuse_blank(prompt)
    return prompts


def from_file(name: str) -> list[Prompt]:
    """Prompts of a text file, one a line; ``-`` reads stdin.

    Args:
        name: path of the file. Lines end with ``\\n`` or ``\\r\\n``; nothing else is stripped.

    Raises:
        BadInput: the file cannot be read, is empty, or has a line that is blank or not UTF-8.
    """
    shown = shown_name(name)
    with open_input(name) as stream:
        lines = enumerate(read_lines(stream, shown), 1)
        return [_from_line(line, f"{shown} line {number}") for number, line in lines]


def encode(
    prompts: Sequence[Prompt], tokenize: Callable[[list[str]], list[list[int]]]
) -> list[list[int]]:
    """Token ids of each prompt.

    Args:
        prompts: the prompts.
        tokenize: texts -> token ids of each, without padding.

    Raises:
        BadInput: a prompt gives no token at all; its row would be nothing but padding.
    """
    rows = tokenize([prompt.text for prompt in prompts])
    for prompt, row in zip(prompts, rows, strict=True):
        if not row:
            raise BadInput(f"{prompt} {NO_TOKENS}")
    return rows


def check_fit(
    prompts: Sequence[Prompt],
    rows: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    positions: int,
    vocabulary: int,
) -> None:
    """Refuse prompts that the model cannot hold.

    Args:
        prompts: the prompts, for messages.
        rows: token ids of each prompt.
        max_new_tokens: tokens that may be added to each.
        positions: length of the model's context, in tokens.
        vocabulary: number of tokens that the model knows.

    Raises:
        BadInput: a prompt and its new tokens are longer than the context, or a token id is not in
            the model's vocabulary (a tokenizer of another model).
    """
    for prompt, row in zip(prompts, rows, strict=True):
        reason = misfit(row, max_new_tokens, positions, vocabulary)
        if reason:
            raise BadInput(f"{prompt} {reason}")


def _from_line(line: bytes, origin: str) -> Prompt:
    if len(line) > LONGEST_LINE:
        raise BadInput(f"{origin} is longer than {LONGEST_LINE} bytes")
    try:
        prompt = Prompt(line.removesuffix(b"\n").removesuffix(b"\r").decode(), origin)
    except UnicodeDecodeError:
        raise BadInput(f"{origin} is not valid UTF-8") from None
    _refuse_blank(prompt)
    return prompt


def _refuse_blank(prompt: Prompt) -> None:
    if not prompt.text.strip():
        raise BadInput(f"{prompt.origin} is blank")
