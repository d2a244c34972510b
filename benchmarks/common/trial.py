"""The first run of every rival on a GPU: does it run at all, and is its answer right?

There a rival may refuse a mask, a dtype or a GPU. It then gets a line that says why, and the others
go on. The truth is the reference in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from masked_attn.cli.errors import reason

from .agreement import TOLERANCE
from .timing import Contender, seconds

__all__ = ["OURS", "Trial", "reason", "try_out"]

OURS = "masked_attn"


@dataclass
class Trial:
    """What the first runs gave.

    Args:
        works: those that are worth timing.
        notes: name -> why it is not timed (or, for ours, what is wrong).
        errors: name -> largest ``|result - truth| / (1 + |truth|)``.
    """

    works: dict[str, Contender] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


def try_out(
    contenders: Mapping[str, Contender | str], truth: Tensor, real_queries: Tensor | None
) -> Trial:
    """Run each contender once and compare its result with ``truth`` where queries are real.

    Args:
        contenders: name -> what to run, or why it can't be run.
        truth: ``[batch, heads or 1, queries, ...]`` float64.
        real_queries: ``[batch, queries]`` bool; None means all.

    Raises:
        Exception: whatever ours raises. A rival that raises is noted.
    """
    trial = Trial()
    for name, contender in contenders.items():
        result = contender if isinstance(contender, str) else _first_run(name, contender)
        if isinstance(result, str):
            trial.notes[name] = f"refused: {result}"
            continue
        error = _distance(result, truth, real_queries)
        trial.errors[name] = error
        right = error <= TOLERANCE[result.dtype]  # false for NaN too
        if not right:
            trial.notes[name] = f"wrong: off by {error:.0e}"
        if right or name == OURS:
            assert isinstance(contender, Contender)
            trial.works[name] = contender
    return trial


def _first_run(name: str, contender: Contender) -> Tensor | str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return contender.unpack(seconds(contender)[1])
        except Exception as error:  # a rival may fail with anything
            if name == OURS:
                raise
            return _why_no_kernel([str(warning.message) for warning in caught]) or reason(error)


def _why_no_kernel(warned: list[str]) -> str:
    """SDPA says in warnings why a backend does not take a call; the error says nothing."""
    said = dict.fromkeys(message.partition(" (Triggered internally")[0] for message in warned)
    head, off = "kernel not used because", "runtime disabled"
    if not any(head in message for message in said):
        return ""
    return " ".join(message for message in said if head not in message and off not in message)


def _distance(result: Tensor, truth: Tensor, real_queries: Tensor | None) -> float:
    if result.shape != truth.shape:
        return torch.inf
    error = (result - truth).abs() / (1 + truth.abs())
    if real_queries is not None:
        error = error.transpose(1, 2)[real_queries]
    return float(error.max())
