"""One call of ``model.generate`` for a padded batch, its seconds, and the tokens without pads."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from masked_attn.cli.model.rows import left_pad

__all__ = ["Decoded", "batches_of", "decode_batch", "end_ids", "pad_id_of"]


@dataclass(frozen=True)
class Decoded:
    """New tokens of every returned sequence, in the order of the prompts, and the seconds."""

    tokens: list[list[int]]
    seconds: float

    @property
    def count(self) -> int:
        """Number of new tokens, pads after the end token not counted."""
        return sum(len(row) for row in self.tokens)


def decode_batch(
    model: Any, rows: Sequence[Sequence[int]], *, pad_id: int, options: dict[str, Any]
) -> Decoded:
    """Continue a batch of prompts.

    Args:
        model: a decoder, patched or not.
        rows: token ids of each prompt.
        pad_id: id that fills up, on the left of prompts and after an end token.
        options: keyword arguments of ``model.generate``.
    """
    ids, mask = left_pad(rows, pad_id)
    start = time.perf_counter()
    result: Tensor = model.generate(
        input_ids=ids, attention_mask=mask, pad_token_id=pad_id, **options
    )
    seconds = time.perf_counter() - start
    ends = end_ids(model)
    tokens = [_until_end(row, ends) for row in result[:, ids.shape[1] :].tolist()]
    return Decoded(tokens, seconds)


def batches_of(rows: Sequence[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Cut rows into batches, in order.

    Example:
        >>> list(batches_of([[1], [2], [3]], 2))
        [[[1], [2]], [[3]]]
    """
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def end_ids(model: Any) -> set[int]:
    """Ids of the tokens that end a sequence for ``model.generate``."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        return set()
    return {ends} if isinstance(ends, int) else set(ends)


def pad_id_of(tokenizer: Any) -> int:
    """The tokenizer's pad id, else its end id, as is usual; pads are masked anyway."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def _until_end(row: list[int], ends: Collection[int]) -> list[int]:
    """Cut after the first end token: what follows is padding."""
    for index, token in enumerate(row):
        if token in ends:
            return row[: index + 1]
    return row
