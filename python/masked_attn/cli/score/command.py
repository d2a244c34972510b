"""``score``: how likely a model finds the lines of a file. One pass over each, no generation."""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.command import run_file
from masked_attn.cli.files.records import Record
from masked_attn.cli.files.resume import Outcome
from masked_attn.cli.model.decoding import pad_id_of
from masked_attn.cli.model.engine import Engine
from masked_attn.cli.model.rows import left_pad
from masked_attn.cli.progress import Progress
from masked_attn.cli.score.scoring import score_batch

__all__ = ["format_row", "line_score", "run"]

HEADER = f"{'line':>8}{'tokens':>8}{'nats/token':>12}{'perplexity':>13}"


def run(args: argparse.Namespace) -> int:
    """Score every line of ``args.input``.

    Returns:
        The exit status: 1 when lines could not be used, else 0.

    Raises:
        BadInput: something cannot be used or written.
    """
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return run_file(args, {}, "score", _Scoring, _Table)


def line_score(
    token_ids: list[int], token_strings: list[str], log_probs: list[float]
) -> dict[str, Any]:
    """What the output holds for a line.

    Args:
        token_ids: of the line.
        token_strings: the text of each.
        log_probs: of each token but the first, in nats.

    Example:
        >>> score = line_score([5, 6, 7], ["a", "b", "c"], [-1.0, -3.0])
        >>> score["nll"], score["log_probs"]
        (2.0, [None, -1.0, -3.0])
    """
    nll = -math.fsum(log_probs) / len(log_probs) if log_probs else None
    return {
        "tokens": len(token_ids),
        "nll": nll,
        "perplexity": _perplexity(nll),
        "token_ids": token_ids,
        "token_strings": token_strings,
        "log_probs": [None, *log_probs],
    }


def format_row(name: str, tokens: int | None, nll: float | None) -> str:
    """A row of the table; ``-`` where there is no score.

    Example:
        >>> format_row("3", 7, 0.0).split()
        ['3', '7', '0.0000', '1']
    """
    shown = "-" if tokens is None else str(tokens)
    if nll is None:
        return f"{name:>8}{shown:>8}{'-':>12}{'-':>13}"
    perplexity = _perplexity(nll)
    return f"{name:>8}{shown:>8}{nll:>12.4f}{math.inf if perplexity is None else perplexity:>13.5g}"


class _Scoring:
    """The work: score each line."""

    new_tokens = 0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tokens = 0
        self._scored = 0
        self._sum = 0.0

    def run(self, rows: list[list[int]], first_line: int) -> list[Outcome]:
        ids, mask = left_pad(rows, pad_id_of(self._engine.tokenizer))
        log_probs = score_batch(self._engine.model, ids, mask)
        return [self._outcome(*pair) for pair in zip(rows, log_probs, strict=True)]

    def count(self, value: Any) -> None:
        if not isinstance(value, dict) or not {"tokens", "nll"} <= value.keys():
            raise BadInput("cannot resume: the output does not hold scores")
        self._tokens += value["tokens"]
        if value["nll"] is not None:
            scored = value["tokens"] - 1
            self._scored += scored
            self._sum += value["nll"] * scored

    def totals(self, lines: int) -> list[str]:
        nll = self._sum / self._scored if self._scored else None
        return [
            format_row("total", self._tokens, nll),
            f"{lines} lines; the first token of a line has no score: {self._scored} tokens have",
        ]

    def _outcome(self, row: list[int], log_probs: list[float]) -> Outcome:
        if not all(map(math.isfinite, log_probs)):
            return Outcome(error="the model gives a log-probability that is not finite")
        strings = [self._engine.text([token], keep_special=True) for token in row]
        return Outcome(line_score(row, strings, log_probs))


class _Table:
    """The sink without ``--output``: a row for each line, on stdout."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        shown.print(HEADER)

    def earlier(self, record: Record) -> None:
        return None

    def write(self, record: Record, outcome: Outcome) -> None:
        value = outcome.value or {"tokens": None, "nll": None}
        self._shown.print(format_row(str(record.number), value["tokens"], value["nll"]))

    def check_end(self) -> None:
        pass


def _perplexity(nll: float | None) -> float | None:
    """``exp(nll)``, or ``None`` beyond what a float holds."""
    try:
        return None if nll is None else math.exp(nll)
    except OverflowError:
        return None
