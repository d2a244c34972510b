"""Patches the embedded GPT-2 and lets it say two tokens beside the stock model.

The operators may be right where the patch is not: a new release of transformers breaks only that.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch

import masked_attn
from masked_attn.cli.errors import BadInput, first_line
from masked_attn.cli.info.machine import installed
from masked_attn.cli.model.loading import find_model, load_model

__all__ = ["ModelCheck", "model_check"]

TOKENS = 2
LENGTHS = (5, 3)  # the second prompt is padded


@dataclass(frozen=True)
class ModelCheck:
    """What was seen: None for ``passed`` where transformers is missing, and why not in one line."""

    passed: bool | None
    why: str
    seconds: float


def model_check() -> ModelCheck:
    """Compare two tokens of the patched embedded model with those of the stock model.

    Example:
        >>> model_check().why
        ''
    """
    if installed("transformers") is None:
        return ModelCheck(None, "transformers is not installed", 0.0)
    start = time.perf_counter()
    try:
        why = _problem()
    except BadInput as error:
        why = str(error)
    except Exception as error:  # whatever an unknown release does to us is one line
        why = f"{type(error).__name__}: {first_line(error)}"
    return ModelCheck(not why, why, time.perf_counter() - start)


def _problem() -> str:
    """What is wrong, or nothing."""
    stock = load_model(find_model(None), "float32")
    patched = masked_attn.patch(copy.deepcopy(stock))
    longest = max(LENGTHS)
    mask = torch.tensor([[0] * (longest - length) + [1] * length for length in LENGTHS])
    ids = torch.arange(1, 1 + mask.numel()).view_as(mask) % stock.config.vocab_size * mask
    ours, theirs = (_generate(model, ids, mask) for model in (patched, stock))
    if ours != theirs:
        return f"its tokens {ours} are not those of the stock model, {theirs}"
    layers: Any = masked_attn.report(patched)["layers"]
    for number, layer in enumerate(layers):
        if layer["path"] == "stock":
            return f"layer {number} ran stock attention: {layer['why']}"
    return ""


def _generate(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    settings = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}
    tokens: torch.Tensor = model.generate(ids, attention_mask=mask, **settings)
    new: list[list[int]] = tokens[:, ids.shape[1] :].tolist()
    return new
