"""What a row of ``docs/features.md`` is, and the batch that most of them use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hf.features.families import DECODERS, Families
from hf.models import generate, positions_of, prompts
from torch import nn

# The one vocabulary of paths, as in ``report`` and ``paths``.
PACKED, CACHED, MASKED = "packed_attention", "cached_attention", "masked_attention"
TEXTBOOK, STOCK = "textbook", "stock"
PATHS = (PACKED, CACHED, MASKED, TEXTBOOK, STOCK)

IDS, MASK = prompts([5, 9, 3])
REAL = MASK.bool()
# Without the first token of each row, which a pad predicts: what counts for a loss.
LABELS = IDS.masked_fill((MASK.cumsum(-1) <= 1) | ~REAL, -100)
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
ONE, _ = prompts([7])


def plain(make: Callable[..., Any], **more: Any) -> Any:
    """The small model of a family as it is."""
    return make(**more)


@dataclass(frozen=True)
class Feature:
    """A feature, and what must come of it.

    Attributes:
        run: uses a model and returns what must be equal: tensors, results of ``generate``, lists.
        paths: all that run, in any layer of any forward.
        note: what the page adds, in Markdown.
        families: those whose small models it is run on.
        differs: by family, what is different there: names of these attributes, with their values.
        builds: make the models, one after the other, from a maker in ``SMALL``; equal weights at
            each call.
        levels: options of ``patch``.
        change: something done to a model after it is patched.
        truth: uses the stock model where ``run`` cannot show what is right.
        implementation: attention of the stock model; only that of eager has weights.
        why: for ``stock``, the reason that is told, or the reasons of different versions; the
            numbers in it may be others.
        tolerance: of tensors; 0 means the same bits.
        only_last: only the last forward is looked at.
        told: for ``stock``, whether a warning says so; in a graph none does.
    """

    run: Callable[[Any], Any]
    paths: tuple[str, ...] = (PACKED, CACHED)
    note: str = ""
    families: Families = DECODERS
    differs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    builds: Sequence[Callable[..., Any]] = (plain,)
    levels: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[Any], object] = lambda model: None
    truth: Callable[[Any], Any] | None = None
    implementation: str = "sdpa"
    why: tuple[str, ...] = ()
    tolerance: float = 2e-4
    only_last: bool = False
    told: bool = True

    def on(self, family: str) -> Feature:
        """As it is for this family."""
        return replace(self, **self.differs.get(family, {}))

    def but(self, *names: str, **changes: Any) -> Feature:
        """The same with what is different for these families."""
        return replace(self, differs={**self.differs, **dict.fromkeys(names, changes)})


def name_of(text: str) -> str:
    """The name of a feature or family in a test id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def stock(why: str, run: Callable[[Any], Any], **more: Any) -> Feature:
    """A feature that runs stock code for this reason."""
    return Feature(run, **{"paths": (STOCK,), "why": (why,), "tolerance": 0.0, **more})


def generating(
    ids: Any = IDS,
    mask: Any = MASK,
    paths: tuple[str, ...] = (PACKED, CACHED),
    note: str = "",
    **settings: Any,
) -> Feature:
    """``generate`` with these settings."""

    def run(model: Any) -> Any:
        result = generate(model, ids, mask, 12, **settings)
        # Logits of beams are not those of the rows that are returned.
        return result.sequences if "num_beams" in settings else result

    return Feature(run, paths, note)


@torch.no_grad()
def forward(model: Any, **inputs: Any) -> torch.Tensor:
    """Logits of the real tokens of the batch."""
    logits: torch.Tensor = model(**{**INPUTS, **inputs}).logits
    return logits[REAL]


def layers_of(model: Any) -> nn.ModuleList:
    """The blocks of a decoder or encoder."""
    return next(m for m in model.base_model.modules() if isinstance(m, nn.ModuleList))


def with_config(**config: Any) -> Callable[..., Any]:
    """Makes a model with this config."""
    return lambda make, **more: make(**{**config, **more})


def change_config(**changes: Any) -> Callable[[Any], None]:
    """Something to do to a model after it is patched."""

    def change(model: Any) -> None:
        for name, value in changes.items():
            setattr(model.base_model.config, name, value)

    return change
