"""Ragged batches: which slots of a row are real, and each row without its pads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hf.families.models import FIRST_WORD, Family
from hf.models import VOCAB
from torch import Tensor

LENGTHS = (5, 12, 1, 9)
SIDES = ("left", "right", "holes")
HOLES = 4  # slots more than the longest row


@dataclass(frozen=True)
class Batch:
    """Ids and mask ``[batch, slots]``; ``positions`` count real tokens."""

    ids: Tensor
    mask: Tensor
    positions: Tensor

    @property
    def real(self) -> Tensor:
        return self.mask.bool()

    def rows(self) -> list[Tensor]:
        """The real tokens of each row, ``[1, length]``."""
        return [ids[real][None] for ids, real in zip(self.ids, self.real, strict=True)]

    def inputs(self) -> dict[str, Tensor]:
        """What users give: no positions."""
        return {"input_ids": self.ids, "attention_mask": self.mask}

    def asked(self) -> dict[str, Tensor]:
        """The same, said to stock code, whose positions count pads unless told otherwise."""
        return {**self.inputs(), "position_ids": self.positions}


def real_slots(length: int, slots: int, side: str, generator: torch.Generator) -> Tensor:
    if side == "left":
        return torch.arange(slots - length, slots)
    if side == "right":
        return torch.arange(length)
    # A row that goes on has a real last token, and one that is pooled a real first one.
    inner = torch.randperm(slots - 2, generator=generator)[: max(length - 2, 0)] + 1
    ends = torch.tensor([slots - 1] if length == 1 else [0, slots - 1])
    return torch.cat([inner, ends]).sort().values


def batch(
    family: Family, side: str = "left", lengths: tuple[int, ...] = LENGTHS, seed: int = 1
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    slots = max(lengths) + (HOLES if side == "holes" else 0)
    ids = torch.full((len(lengths), slots), family.settings["pad_token_id"])
    mask = torch.zeros(len(lengths), slots, dtype=torch.long)
    for row, length in enumerate(lengths):
        place = real_slots(length, slots, side, generator)
        mask[row, place] = 1
        ids[row, place] = torch.randint(FIRST_WORD, VOCAB, (length,), generator=generator)
    return Batch(ids, mask, family.positions(mask))


def each_alone(model: Any, batch: Batch, output: str) -> list[Tensor]:
    """An output of each row by itself, ``[length, ...]``."""
    with torch.no_grad():
        return [model(row)[output][0] for row in batch.rows()]
