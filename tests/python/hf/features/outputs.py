"""Kinds of models, and what they can be asked for."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from hf.features.feature import (
    IDS,
    INPUTS,
    LABELS,
    MASK,
    REAL,
    Feature,
    forward,
    with_config,
)
from hf.models import generate, gpt2

BEFORE = torch.ones(IDS.shape[1], IDS.shape[1]).tril().bool()


def in_dtype(dtype: torch.dtype, tolerance: float) -> Feature:
    return Feature(forward, builds=[lambda **more: gpt2(**more).to(dtype)], tolerance=tolerance)


def quantised(**more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(gpt2(**more), {torch.nn.Linear})


def both(model: Any) -> Any:
    return [generate(model, IDS, MASK), forward(model)]


@torch.no_grad()
def weights(model: Any) -> Any:
    """Of pairs of real tokens: what pads see is not defined."""
    out = model(**INPUTS, output_attentions=True)
    pairs = (REAL[:, :, None] & REAL[:, None, :] & BEFORE)[:, None].expand(-1, 2, -1, -1)
    return [out.logits[REAL], *(layer[pairs] for layer in out.attentions)]


@torch.no_grad()
def states(model: Any) -> Any:
    found = model(**INPUTS, output_hidden_states=True).hidden_states
    assert len(found) == 3
    return [layer[REAL] for layer in found]


@torch.no_grad()
def loss(model: Any) -> Any:
    return model(**INPUTS, labels=LABELS).loss


def compiled(model: Any) -> Any:
    torch._dynamo.reset()
    return forward(torch.compile(model, backend="eager", fullgraph=True))


def autocast(model: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return forward(model).float()


OUTPUTS = {
    "scale-attn-weights-false": Feature(both, builds=[with_config(scale_attn_weights=False)]),
    "scale-attn-by-inverse-layer-idx": Feature(
        both, builds=[with_config(scale_attn_by_inverse_layer_idx=True)]
    ),
    "reorder-and-upcast-attn": Feature(
        both, builds=[with_config(reorder_and_upcast_attn=True)], implementation="eager"
    ),
    "head-sizes-16-to-128": Feature(
        both, builds=[with_config(embed=2 * size) for size in (16, 24, 32, 64, 80, 128)]
    ),
    "bfloat16": in_dtype(torch.bfloat16, 0.05),
    "float16": in_dtype(torch.float16, 5e-3),
    "float64": in_dtype(torch.float64, 1e-9),
    "autocast": Feature(autocast, tolerance=0.05),
    "output-attentions": Feature(weights, "textbook", implementation="eager"),
    "output-hidden-states": Feature(states),
    "labels": Feature(loss),
    "caches-of-half-the-size": Feature(
        lambda model: generate(model, IDS, MASK).logits[0],
        levels={"cache_dtype": torch.bfloat16},
    ),
    "quantised-linear-layers": Feature(both, builds=[quantised]),
    # A hook would be compiled, too.
    "torch-compile": Feature(compiled, only_last=True),
}
