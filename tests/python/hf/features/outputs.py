"""Kinds of models, and what they can be asked for."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from hf.families.models import in_float64
from hf.features.families import (
    EXPERTS,
    GEMMA2,
    GEMMA3,
    GPT2,
    LINEAR,
    SOME_DECODERS,
    STABLELM,
)
from hf.features.feature import (
    IDS,
    INPUTS,
    LABELS,
    MASK,
    MASKED,
    PACKED,
    REAL,
    TEXTBOOK,
    Feature,
    change_config,
    forward,
    stock,
    with_config,
)
from hf.models import generate

BEFORE = torch.ones(IDS.shape[1], IDS.shape[1]).tril().bool()


# How far stock code itself is from float64, about; Gemma 3 has larger embeddings, and logits. A
# token whose experts are as good as equal may get another one.
OTHER_EXPERT = {family: {"tolerance": 0.8} for family in EXPERTS}
BFLOAT16 = {"tolerance": 0.1, "differs": {"Gemma 3": {"tolerance": 0.4}, **OTHER_EXPERT}}
LARGER = {"Gemma 2": {"tolerance": 0.06}, "Gemma 3": {"tolerance": 0.06}}
FLOAT16 = {"tolerance": 0.01, "differs": {**LARGER, **OTHER_EXPERT}}


def in_dtype(dtype: torch.dtype, **more: Any) -> Feature:
    def build(make: Any, **more: Any) -> Any:
        model = make(**more)
        return in_float64(model) if dtype == torch.float64 else model.to(dtype)

    return Feature(forward, (PACKED,), builds=[build], **more)


def quantised(make: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(make(**more), {torch.nn.Linear})


def both(model: Any) -> Any:
    return [generate(model, IDS, MASK), forward(model)]


@torch.no_grad()
def unpadded(model: Any) -> Any:
    return model(IDS).logits


@torch.no_grad()
def weights(model: Any) -> Any:
    """Of pairs of real tokens: what pads see is not defined."""
    heads = model.config.num_attention_heads
    out = model(**INPUTS, output_attentions=True)
    pairs = (REAL[:, :, None] & REAL[:, None, :] & BEFORE)[:, None].expand(-1, heads, -1, -1)
    return [out.logits[REAL], *(layer[pairs] for layer in out.attentions)]


@torch.no_grad()
def states(model: Any) -> Any:
    found = model(**INPUTS, output_hidden_states=True).hidden_states
    assert len(found) == model.config.num_hidden_layers + 1
    return [layer[REAL] for layer in found]


@torch.no_grad()
def loss(model: Any) -> Any:
    return model(**INPUTS, labels=LABELS).loss


def compiled(model: Any) -> Any:
    torch._dynamo.reset()
    return forward(torch.compile(model, backend="eager", fullgraph=True))


def compiled_in_pieces(model: Any) -> Any:
    torch._dynamo.reset()
    return forward(torch.compile(model, backend="eager"))


def autocast(model: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return forward(model).float()


OUTPUTS = {
    "`scale_attn_weights=False`": Feature(
        both, builds=[with_config(scale_attn_weights=False)], families=GPT2
    ),
    "`scale_attn_by_inverse_layer_idx`": Feature(
        both, builds=[with_config(scale_attn_by_inverse_layer_idx=True)], families=GPT2
    ),
    "`reorder_and_upcast_attn`": Feature(
        both,
        builds=[with_config(reorder_and_upcast_attn=True)],
        implementation="eager",
        note="sums are in float32 anyway",
        families=GPT2,
    ),
    "head sizes 16 to 128": Feature(
        both,
        builds=[with_config(head_dim=size) for size in (16, 24, 32, 64, 80, 128)],
        families=SOME_DECODERS,
    ),
    "`bfloat16`": in_dtype(torch.bfloat16, **BFLOAT16),
    "`float16`": in_dtype(torch.float16, **FLOAT16),
    # Stock eager attention has a softmax in float32, NaN in pads, and they leak.
    "`float64`": in_dtype(torch.float64, tolerance=1e-9).but(
        "Gemma 2", run=unpadded, paths=(MASKED,), tolerance=1e-5, note="no pads"
    ),
    "autocast": Feature(autocast, paths=(PACKED,), **BFLOAT16),
    # A hook would be compiled, too.
    "`torch.compile`": Feature(
        compiled, (MASKED,), "no graph breaks", SOME_DECODERS, only_last=True
    ),
    "`torch.compile` of layers that hand no keyword on": stock(
        "its layers hand no keyword on, and a graph has no other way",
        compiled_in_pieces,
        note="and the graph is cut there",
        families=STABLELM,
        tolerance=2e-4,
        only_last=True,
        told=False,
    ),
    "quantised linear layers": Feature(
        both,
        builds=[quantised],
        note=(
            "and pruned or parametrised ones, adapters: they keep their own products, their"
            " `base_layer` becomes fast"
        ),
        # Of GPT-2 that is the head alone. Others have one scale for a whole batch, pads included,
        # and what is near the middle of two steps goes either way.
    ).but(*LINEAR, run=unpadded, paths=(MASKED,), tolerance=0.05, note="no pads"),
    "`output_hidden_states`": Feature(states, paths=(PACKED,)),
    "labels": Feature(
        loss,
        paths=(PACKED,),
        note="the loss, under `torch.no_grad()`; pads must not predict a label that counts",
    ),
    "`output_attentions`": Feature(
        weights,
        implementation="eager",
        paths=(TEXTBOOK,),
        note="real weights, and 0 in rows of pads, also while training",
    ),
    "`attn_logit_softcapping` set after `patch`": stock(
        "its scores are bent by attn_logit_softcapping",
        forward,
        change=change_config(attn_logit_softcapping=5.0),
        note="before it, `patch` refuses the model",
        families=GEMMA3,
    ),
    "`use_bidirectional_attention` set after `patch`": stock(
        "its attention looks both ways (use_bidirectional_attention)",
        forward,
        change=change_config(use_bidirectional_attention=True),
        note="the same",
        families=GEMMA2 + GEMMA3,
    ),
    "`is_causal=False`": stock(
        "the model is not causal", forward, builds=[with_config(is_causal=False)]
    ),
}
