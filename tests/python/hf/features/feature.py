"""What one line of the table in ``docs/gpt2.md`` is, and the batch that most of them use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hf.models import generate, gpt2, positions_of, prompts

IDS, MASK = prompts([5, 9, 3])
REAL = MASK.bool()
# Without the first token of each row, which a pad predicts: what counts for a loss.
LABELS = IDS.masked_fill((MASK.cumsum(-1) <= 1) | ~REAL, -100)
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
ONE, _ = prompts([7])


@dataclass(frozen=True)
class Feature:
    """A feature, and what must come of it.

    Attributes:
        run: uses a model and returns what must be equal: tensors, results of ``generate``, lists.
        path: ``fused``, ``textbook`` or ``stock``.
        builds: make the models, one after the other; equal weights at each call.
        levels: options of ``patch``.
        change: something done to a model after it is patched.
        truth: uses the stock model where ``run`` cannot show what is right.
        implementation: attention of the stock model; only that of eager has weights.
        why: for ``stock``, the reason that is told, or the reasons of different versions; the
            numbers in it may be others.
        tolerance: of tensors; 0 means the same bits.
        only_last: only the last forward is looked at.
    """

    run: Callable[[Any], Any]
    path: str = "fused"
    builds: Sequence[Callable[..., Any]] = (gpt2,)
    levels: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[Any], object] = lambda model: None
    truth: Callable[[Any], Any] | None = None
    implementation: str = "sdpa"
    why: tuple[str, ...] = ()
    tolerance: float = 2e-4
    only_last: bool = False


def stock(why: str, run: Callable[[Any], Any], **more: Any) -> Feature:
    """A feature that runs stock code for this reason."""
    return Feature(run, **{"path": "stock", "why": (why,), "tolerance": 0.0, **more})


def generating(ids: Any = IDS, mask: Any = MASK, path: str = "fused", **settings: Any) -> Feature:
    """``generate`` with these settings."""

    def run(model: Any) -> Any:
        result = generate(model, ids, mask, 12, **settings)
        # Logits of beams are not those of the rows that are returned.
        return result.sequences if "num_beams" in settings else result

    return Feature(run, path)


@torch.no_grad()
def forward(model: Any, **inputs: Any) -> torch.Tensor:
    """Logits of the real tokens of the batch."""
    logits: torch.Tensor = model(**{**INPUTS, **inputs}).logits
    return logits[REAL]


def with_config(**config: Any) -> Callable[..., Any]:
    """Makes a model with this config."""
    return lambda **more: gpt2(**{**config, **more})
