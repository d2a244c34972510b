"""Tells a tie from a disagreement where two runs chose different tokens.

Torch's matrix products of different heights differ in the last bits, so two tokens whose logits are
that close may change places. The yardstick must not come from the code under test: the rounding
error is that of the *stock* model against itself in float64, on the prompt alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

__all__ = ["Judge", "Verdict", "first_difference"]


@dataclass(frozen=True)
class Verdict:
    """How far two tokens are below the best in float64, and how far rounding reaches."""

    gap: float
    error: float

    @property
    def is_tie(self) -> bool:
        """Each of two logits may be off by the error, in opposite directions."""
        return self.gap <= 2 * self.error


class Judge:
    """Compares tokens at one step by the scores of the stock model in float64."""

    def __init__(self, model: Any, options: dict[str, Any]) -> None:
        """
        Args:
            model: the unpatched model.
            options: keyword arguments of ``model.generate`` that the runs had (greedy).
        """
        self._model = model
        self._exact = copy.deepcopy(model).double()
        self._options = {**options, "max_new_tokens": 1}

    def compare(self, prefix: Sequence[int], first: int | None, second: int | None) -> Verdict:
        """Judge two tokens that followed the same prefix.

        Args:
            prefix: the prompt and the new tokens that agree.
            first: token of one run; ``None`` when that run had ended.
            second: token of the other run.
        """
        exact = self._scores(self._exact, prefix)
        rounded = self._scores(self._model, prefix)
        seen = exact.isfinite() & rounded.isfinite()
        error = float((exact - rounded)[seen].abs().max())
        # generate() picks among float32 scores, whatever the dtype of the model.
        smallest = torch.finfo(torch.float32).eps * float(exact[seen].abs().max())
        best = float(exact.max())
        lower = min(
            float(exact[token]) if token is not None else -torch.inf for token in (first, second)
        )
        return Verdict(gap=best - lower, error=max(error, smallest))

    def _scores(self, model: Any, prefix: Sequence[int]) -> Tensor:
        """Processed scores of the next token: ``[vocabulary]`` float64."""
        ids = torch.tensor([list(prefix)])
        result = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
            **self._options,
        )
        scores: Tensor = result.scores[0][0]
        return scores.double()


def first_difference(
    one: Sequence[int], other: Sequence[int]
) -> tuple[int, int | None, int | None] | None:
    """Index and tokens of the first step at which two runs differ; ``None`` when they do not.

    Example:
        >>> first_difference([5, 6, 7], [5, 8])
        (1, 6, 8)
    """
    for index, (first, second) in enumerate(zip_longest(one, other)):
        if first != second:
            return index, first, second
    return None
