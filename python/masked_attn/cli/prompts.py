"""Reads prompts and checks them, all of them before any work: each message names its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from masked_attn.cli.errors import BadInput
from masked_attn.cli.records import LONGEST_LINE, open_input, read_lines, shown_name

__all__ = ["Prompt", "check_fit", "encode", "from_arguments", "from_file", "left_pad", "misfit"]

SHOWN_CHARACTERS = 40
NO_TOKENS = "gives no tokens: its mask would be all zero"


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


def misfit(row: Sequence[int], max_new_tokens: int, positions: int, vocabulary: int) -> str:
    """Why the model cannot hold a prompt; empty when it can. The arguments are ``check_fit``'s.

    Example:
        >>> misfit([5, 6], max_new_tokens=0, positions=1, vocabulary=9)
        "is too long: 2 tokens, the model's limit is 1"
    """
    if not row:
        return NO_TOKENS
    total = len(row) + max_new_tokens
    if total > positions:
        added = f" + {max_new_tokens} new ones = {total}" if max_new_tokens else ""
        return f"is too long: {len(row)} tokens{added}, the model's limit is {positions}"
    if max(row) >= vocabulary:
        return (
            f"holds token {max(row)}, the model knows {vocabulary}: "
            "the tokenizer is not the model's own"
        )
    return ""


def left_pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """One rectangle of token ids, padded on the left, and its mask.

    Args:
        rows: token ids of each prompt, at least one each.
        pad_id: id that fills up.

    Returns:
        ``input_ids`` and ``attention_mask``, both ``[batch, longest]`` int64; 1 = real token.

    Example:
        >>> left_pad([[5], [6, 7]], pad_id=0)
        (tensor([[0, 5],
                [6, 7]]), tensor([[0, 1],
                [1, 1]]))
    """
    longest = max(len(row) for row in rows)
    pads = [longest - len(row) for row in rows]
    ids = [[pad_id] * pad + list(row) for pad, row in zip(pads, rows, strict=True)]
    mask = [[0] * pad + [1] * len(row) for pad, row in zip(pads, rows, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


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
