"""Comparison of generated tokens that reports ties and hides nothing."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor


class TieWarning(UserWarning):
    """Two tokens were closer than the measured error, so either may come first."""


def assert_same_tokens(ours: Any, theirs: Any) -> None:
    """Rows of two results of ``generate`` agree token for token; a tie ends its row.

    A tie is a step at which the two best logits are closer than twice its measured error.
    """
    steps = len(theirs.logits)
    mine, other = ours.sequences[:, -steps:], theirs.sequences[:, -steps:]
    assert mine.shape == other.shape
    for row in range(len(other)):
        _compare_row(mine[row], other[row], _row(ours, row), _row(theirs, row), name=f"row {row}")


def assert_same_as_alone(batched: Any, alone: list[Any]) -> None:
    """Every row of a batch agrees with the same prompt run alone."""
    for row, single in enumerate(alone):
        steps = len(single.logits)
        mine, other = batched.sequences[row, -steps:], single.sequences[0, -steps:]
        _compare_row(mine, other, _row(batched, row), _row(single, 0), name=f"prompt {row} alone")


def assert_varied(result: Any, distinct: int = 8) -> None:
    """Every generated row holds many distinct tokens: a constant output proves nothing."""
    steps = len(result.logits)
    counts = [len(row.unique()) for row in result.sequences[:, -steps:]]
    assert min(counts) >= distinct, f"distinct tokens per row: {counts}"


def _row(result: Any, row: int) -> Tensor:
    return torch.stack([logits[row] for logits in result.logits])


def _compare_row(mine: Tensor, other: Tensor, my_logits: Tensor, logits: Tensor, name: str) -> None:
    different = (mine != other).nonzero()
    if not len(different):
        return
    step = int(different[0])
    best = logits[step].topk(2).values
    gap = float(best[0] - best[1])
    error = float((my_logits[step] - logits[step]).abs().max())
    where = f"{name}, step {step}: gap of the two best logits {gap:.2e}, error {error:.2e}"
    close = gap <= 2 * error and error <= 1e-3 * float(logits[step].abs().max())
    assert close, f"tokens {mine[step]} and {other[step]} differ at {where}"
    warnings.warn(f"tie at {where}", TieWarning, stacklevel=3)
