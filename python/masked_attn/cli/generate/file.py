"""``generate --output``: a file of prompts in, the same lines with their completions out."""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import torch

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.command import run_file
from masked_attn.cli.files.resume import Outcome
from masked_attn.cli.generate.arguments import check_beams, generation_options
from masked_attn.cli.model.engine import Engine

__all__ = ["batch_seed", "run"]


def run(args: argparse.Namespace) -> int:
    """Complete every line of ``args.input``.

    Returns:
        The exit status: 1 when lines could not be used, else 0.

    Raises:
        BadInput: something cannot be used or written.
    """
    options = generation_options(args)
    return run_file(
        args,
        options,
        "completion" if args.num_return_sequences == 1 else "completions",
        lambda engine: _Completing(engine, args.seed or 0),
        check_config=lambda config: check_beams(args, config),
    )


def batch_seed(seed: int, first_line: int) -> int:
    """The seed of the batch whose first line is ``first_line``.

    A batch draws the same whether or not the run was interrupted before it.
    """
    digest = hashlib.blake2b(f"{seed} {first_line}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Completing:
    """The work: continue each prompt."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.new_tokens = int(engine.options["max_new_tokens"])
        self._engine = engine
        self._seed = seed
        self._count = 0
        self._seconds = 0.0

    def run(self, rows: list[list[int]], first_line: int) -> list[Outcome]:
        if self._engine.options["do_sample"]:
            torch.manual_seed(batch_seed(self._seed, first_line))
        decoded = self._engine.decode(rows)
        self._count += decoded.count
        self._seconds += decoded.seconds
        texts = [self._engine.text(row) for row in decoded.tokens]
        returned = self._engine.returned
        if returned == 1:
            return [Outcome(text) for text in texts]
        starts = range(0, len(texts), returned)
        return [Outcome(texts[start : start + returned]) for start in starts]

    def count(self, value: Any) -> None:
        returned = self._engine.returned
        ours = isinstance(value, str) if returned == 1 else isinstance(value, list)
        if not ours or (returned > 1 and len(value) != returned):
            raise BadInput(f"cannot resume: the output does not hold {returned} completion(s)")

    def totals(self, lines: int) -> list[str]:
        if not self._count:
            return [f"{lines} lines, no new tokens"]
        speed = self._count / self._seconds
        return [
            f"{lines} lines",
            f"{self._count} new tokens in {self._seconds:.2f} s: {speed:.0f} tokens/s",
        ]
