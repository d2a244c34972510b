"""A batch of prompts of chosen lengths, and how lengths are written on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WORKLOADS", "Workload", "describe_lengths", "parse_lengths"]

MAX_ROWS = 4096
DOTS = "..."


@dataclass(frozen=True)
class Workload:
    """Prompts and the number of new tokens of each row.

    Args:
        lengths: tokens of each prompt.
        new_tokens: what ``generate`` adds to each.
    """

    name: str
    lengths: tuple[int, ...]
    new_tokens: int

    @property
    def padding(self) -> float:
        """The share of pads in the padded prompts, from 0 to 1."""
        return 1 - sum(self.lengths) / (len(self.lengths) * max(self.lengths))

    @property
    def longest(self) -> int:
        """Tokens of the longest row at its end."""
        return max(self.lengths) + self.new_tokens

    def batch(self, vocabulary: int, device: str) -> dict[str, Tensor]:
        """Random ``input_ids`` and the ``attention_mask``, ``[batch, longest]`` int64, left-padded.

        The ids are the same in every process: they depend on lengths and vocabulary only.
        """
        import torch  # the words of the command line are read without it

        from masked_attn.masks import padding_mask

        mask = padding_mask(torch.tensor(self.lengths)).long()
        ids = torch.randint(vocabulary, mask.shape, generator=torch.Generator().manual_seed(0))
        return {"input_ids": (ids * mask).to(device), "attention_mask": mask.to(device)}


WORKLOADS = {
    "W1": Workload("W1 ragged", tuple(range(64, 513, 64)), 64),
    "W2": Workload("W2 equal", (512,) * 8, 64),
    "W3": Workload("W3 short", tuple(range(8, 65, 8)), 128),
}


def parse_lengths(text: str) -> tuple[int, ...]:
    """Lengths from words between commas: a number, ``NxR`` for R rows of N, or ``...``.

    Example:
        >>> parse_lengths("64,128,...,256")
        (64, 128, 192, 256)
        >>> parse_lengths("7,512x3")
        (7, 512, 512, 512)
    """
    lengths: list[int] = []
    words = [word.strip() for word in text.split(",")]
    for place, word in enumerate(words):
        if word == DOTS:
            lengths += _between(lengths, words[place + 1 : place + 2], text)
        else:
            lengths += _rows(word, text)
    if len(lengths) > MAX_ROWS:
        raise argparse.ArgumentTypeError(f"more than {MAX_ROWS} rows: {text!r}")
    return tuple(lengths)


def describe_lengths(lengths: Sequence[int]) -> str:
    """A short phrase.

    Example:
        >>> describe_lengths((64, 128, 192, 256, 320))
        '5 prompts of 64, 128, ..., 320 tokens'
    """
    steps = {after - before for before, after in pairwise(lengths)}
    if len(lengths) == 1:
        return f"1 prompt of {lengths[0]} tokens"
    if steps == {0}:
        which = str(lengths[0])
    elif len(lengths) > 4 and len(steps) == 1:
        which = f"{lengths[0]}, {lengths[1]}, {DOTS}, {lengths[-1]}"
    elif len(lengths) <= 8:
        which = ", ".join(map(str, lengths))
    else:
        which = f"{min(lengths)} to {max(lengths)}"
    return f"{len(lengths)} prompts of {which} tokens"


def _rows(word: str, text: str) -> list[int]:
    length, times, rows = word.partition("x")
    numbers = [length, rows] if times else [length]
    if not all(number.isdecimal() and int(number[:9]) >= 1 for number in numbers):
        raise argparse.ArgumentTypeError(
            f"must be lengths like 64,128,{DOTS},512 or 512x8, got {text!r}"
        )
    return [int(length)] * min(int(rows or 1), MAX_ROWS + 1)


def _between(before: list[int], after: list[str], text: str) -> range:
    """The lengths that ``...`` stands for."""
    if len(before) < 2 or not after:
        raise argparse.ArgumentTypeError(f"{DOTS} needs two lengths before and one after: {text!r}")
    step = before[-1] - before[-2]
    last = _rows(after[0], text)[0]
    if step == 0 or (last - before[-1]) % step or (last - before[-1]) // step < 1:
        raise argparse.ArgumentTypeError(f"{DOTS} does not lead to {last} here: {text!r}")
    if (last - before[-1]) // step > MAX_ROWS:
        raise argparse.ArgumentTypeError(f"more than {MAX_ROWS} rows: {text!r}")
    return range(before[-1] + step, last, step)
