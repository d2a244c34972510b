"""One batch of sentences through an encoder: stock, stock with our attention, patched."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from common.agreement import agreement
from common.gpt2 import STOCK
from common.report import COMPARISON, Chart, Report
from common.timing import Contender, take_turns
from common.trial import OURS
from masked_attn.masks import padding_mask

from .comparisons import add_rows
from .sentences import measure_sentences
from .shapes import ENCODERS, systems

__all__ = ["measure_encoder"]

SENTENCES = 32
SHORTEST, LONGEST = 16, 256


def measure_encoder(report: Report, name: str) -> None:
    """A table of the model itself, and one of sentence-transformers if that is installed."""
    options = report.options
    models = systems(ENCODERS[name].build(options.quick))
    table = report.table(f"last_hidden_state, {name}", COMPARISON, Chart())
    batch = padded(options.quick, models[OURS].config.vocab_size)
    case = "{} x {} tokens".format(*batch["input_ids"].shape)
    contenders = {
        system: Contender(partial(hidden, model, batch)) for system, model in models.items()
    }
    check = agreement(batch["attention_mask"].bool())
    add_rows(table, case, take_turns(contenders, options.repeats, check))
    measure_sentences(report, name, models[STOCK], lengths(options.quick))


def lengths(quick: bool) -> Tensor:
    """Tokens of each sentence, ``[sentences]`` int64, mixed."""
    longest = 32 if quick else LONGEST
    made = torch.linspace(SHORTEST, longest, 6 if quick else SENTENCES).long()
    return made[torch.randperm(len(made), generator=torch.Generator().manual_seed(0))]


def padded(quick: bool, vocabulary: int) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` ``[sentences, longest]`` int64, padded on the right."""
    mask = padding_mask(lengths(quick), padding_side="right").long()
    ids = torch.randint(1, vocabulary, mask.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids * mask, "attention_mask": mask}


def hidden(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """``[sentences, 1, longest, width]``: ``agreement`` looks for queries on the third axis."""
    states: Tensor = model(**batch).last_hidden_state
    return states[:, None]
