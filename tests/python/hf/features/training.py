"""What runs the code of transformers because something is learned."""

from __future__ import annotations

from typing import Any

import torch
from hf.features.families import NOT_PLAIN
from hf.features.feature import INPUTS, LABELS, REAL, TEXTBOOK, forward, layers_of, stock

WITH_PADS = {"padding_free": False}
# Torch's attention does not know all that these layers say.
STEP_BY_STEP = {"paths": (TEXTBOOK,), "why": ()}


def learning(model: Any) -> Any:
    """Gradients of all parameters."""
    model.zero_grad()
    model(**INPUTS, labels=LABELS).loss.backward()
    return [parameter.grad for parameter in model.parameters()]


def dropping(make: Any, **more: Any) -> Any:
    # Under the name that the config of this family has.
    return make(attn_pdrop=0.5, attention_dropout=0.5, **more).train()


def checkpointing(make: Any, **more: Any) -> Any:
    model = make(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, **more).train()
    # The second name is the old one.
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    return model


def frozen(make: Any, **more: Any) -> Any:
    return make(**more).requires_grad_(False)


def learn_inside(model: Any) -> None:
    """An adapter that the model does not count among its parameters."""
    model.learned = [torch.zeros(32, requires_grad=True)]
    # Of the layer itself: attention may have norms of another width.
    norm = next(m for m in layers_of(model)[0].children() if "Norm" in type(m).__name__)
    norm.register_forward_hook(lambda module, args, out: out + model.learned[0])


def learned_inside(model: Any) -> Any:
    model.learned[0].grad = None
    model(**INPUTS).logits[REAL].square().sum().backward()
    return model.learned[0].grad


TRAINING = {
    "recorded gradients": stock(
        "gradients are recorded",
        learning,
        levels=WITH_PADS,
        note=(
            "a batch without pads, or `padding_free=False`; wrap inference in "
            "`torch.no_grad()`, `generate` does so by itself"
        ),
    ),
    "recorded gradients, without pads": stock(
        "gradients are recorded inside the layers",
        learning,
        tolerance=2e-4,
        note="pads are dropped all the same; attention alone is torch's",
    ).but(*NOT_PLAIN, **STEP_BY_STEP, note="attention step by step"),
    "gradients that start inside the layers": stock(
        "gradients are recorded inside the layers",
        learned_inside,
        builds=[frozen],
        change=learn_inside,
        tolerance=2e-4,
        note="an adapter that is no parameter of the model; torch's attention, our masks",
    ).but(*NOT_PLAIN, **STEP_BY_STEP, note="attention step by step"),
    "attention dropout": stock(
        "attention weights are dropped",
        forward,
        builds=[dropping],
        levels=WITH_PADS,
        note="training mode with `attn_pdrop` above 0; with `output_attentions` `textbook`",
    ),
    "gradient checkpointing": stock(
        "gradient checkpointing is on",
        learning,
        builds=[checkpointing],
        note=(
            "training mode only; with `output_attentions` `textbook`, unless there are "
            "encoder states"
        ),
    ),
}
