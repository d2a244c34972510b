"""What runs the code of transformers, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from hf.features.feature import (
    IDS,
    INPUTS,
    LABELS,
    MASK,
    REAL,
    Feature,
    forward,
    stock,
    with_config,
)
from hf.features.inputs import STATES
from hf.models import gpt2
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    ContinuousBatchingConfig,
    GenerationConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

WITH_PADS = {"padding_free": False}
EAGER = [with_config(implementation="eager")]
SETTINGS = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=7)
LITTLE_MEMORY = ContinuousBatchingConfig(num_blocks=4, max_batch_tokens=32)


def keyword(name: str, value: Any) -> Feature:
    """A keyword that only some attention functions know; eager takes them all."""
    run = lambda model: forward(model, **{name: value})  # noqa: E731
    return stock(f"{name} was given", run, builds=EAGER, implementation="eager")


def learning(model: Any) -> Any:
    """Gradients of all parameters."""
    model.zero_grad()
    model(**INPUTS, labels=LABELS).loss.backward()
    return [parameter.grad for parameter in model.parameters()]


def dropping(**more: Any) -> Any:
    return gpt2(attn_pdrop=0.5, **more).train()


def checkpointing(**more: Any) -> Any:
    model = gpt2(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, **more).train()
    # The second name is the old one.
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    return model


def frozen(**more: Any) -> Any:
    return gpt2(**more).requires_grad_(False)


def learn_inside(model: Any) -> None:
    """An adapter that the model does not count among its parameters."""
    model.learned = [torch.zeros(32, requires_grad=True)]
    model.transformer.h[0].ln_1.register_forward_hook(lambda m, args, out: out + model.learned[0])


def learned_inside(model: Any) -> Any:
    model.learned[0].grad = None
    model(**INPUTS).logits[REAL].square().sum().backward()
    return model.learned[0].grad


def paged(model: Any) -> Any:
    results = model.generate_batch(
        [IDS[1].tolist()],
        generation_config=SETTINGS,
        continuous_batching_config=LITTLE_MEMORY,
        progress_bar=False,
    )
    return [torch.tensor(result.generated_tokens) for result in results.values()]


def block(model: Any) -> Any:
    return model.transformer.h[0]


def hooked(register: Callable[[Any], object]) -> Callable[..., Any]:
    """Makes a model with a hook on its first block."""

    def build(**more: Any) -> Any:
        model = gpt2(**more)
        register(block(model))
        return model

    return build


def louder(module: Any, args: Any, output: Any = None) -> Any:
    return (args[0] * 1.5, *args[1:])


def louder_output(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
    return (output[0] * 1.5, *output[1:])


def with_registered_attention(**more: Any) -> Any:
    AttentionInterface.register("of_others", sdpa_attention_forward)
    AttentionMaskInterface.register("of_others", sdpa_mask)
    return gpt2(**{**more, "implementation": "of_others"})


class Louder(ModelHook):  # type: ignore[misc]
    """A hook of accelerate that does more than to move tensors."""

    def post_forward(self, module: Any, output: Any) -> Any:
        return (output[0] * 1.5, *output[1:])


def replace_forward(model: Any) -> None:
    inner = block(model).forward
    block(model).forward = lambda *args, **kwargs: inner(*args, **kwargs) * 1.5


class Wrapper(nn.Module):
    """A module around a block."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def wrap(model: Any) -> None:
    model.transformer.h[0] = Wrapper(block(model))


def hide(module: Any, args: Any) -> Any:
    """Nobody sees the first key."""
    if type(module).__name__ != "GPT2Block":
        return None
    seen = torch.ones(3, 1, IDS.shape[1], IDS.shape[1]).bool().tril()
    seen[..., 0] = False
    return (*args[:2], seen | torch.eye(IDS.shape[1]).bool(), *args[3:])


def hidden(model: Any) -> Any:
    hook = nn.modules.module.register_module_forward_pre_hook(hide)
    try:
        return forward(model)
    finally:
        hook.remove()


def called(model: Any) -> Any:
    """Somebody calls the blocks with a mask of his own."""
    original = GPT2Block.__call__
    GPT2Block.__call__ = lambda self, *args, **more: original(self, *hide(self, args), **more)
    try:
        return forward(model)
    finally:
        del GPT2Block.__call__


def replaced(model: Any) -> Any:
    original = GPT2Block.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *hide(self, args), **kwargs)

    GPT2Block.forward = forward
    try:
        with torch.no_grad():
            return model(**INPUTS).logits[REAL]
    finally:
        GPT2Block.forward = original


class LouderBlock(GPT2Block):
    """A block of another class, with a forward of its own."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs) * 1.5


def make_louder(first: Any) -> None:
    first.__class__ = LouderBlock


def refused(**inputs: Any) -> Callable[[Any], Any]:
    """The class of the error that a call ends with, as a tensor of letters."""

    def run(model: Any) -> Any:
        try:
            with torch.no_grad():
                model(**inputs)
        except Exception as error:
            return torch.tensor(list(type(error).__name__.encode()))
        raise AssertionError("there is no error")

    return run


STOCK = {
    "attention-dropout": stock(
        "attention weights are dropped", forward, builds=[dropping], levels=WITH_PADS
    ),
    "recorded-gradients": stock("gradients are recorded", learning, levels=WITH_PADS),
    "recorded-gradients-without-pads": stock(
        "gradients are recorded inside the layers", learning, tolerance=2e-4
    ),
    "gradients-that-start-inside-the-layers": stock(
        "gradients are recorded inside the layers",
        learned_inside,
        builds=[frozen],
        change=learn_inside,
        tolerance=2e-4,
    ),
    "gradient-checkpointing": stock(
        "gradient checkpointing is on", learning, builds=[checkpointing]
    ),
    "is-causal-false": stock(
        "the model is not causal", forward, builds=[with_config(is_causal=False)]
    ),
    # How attention is told to be paged depends on the version.
    "generate-batch": Feature(
        paged,
        "stock",
        why=(
            *("attention implementation paged|sdpa", "cache was given"),
            "the cache is a PagedAttentionCache",
        ),
        tolerance=0.0,
    ),
    "pre-hook-on-a-block": stock(
        "a forward pre-hook on layer 0",
        forward,
        builds=[hooked(lambda block: block.register_forward_pre_hook(louder))],
    ),
    "hook-with-kwargs-on-attn": stock(
        "a hook with_kwargs on attn of layer 0",
        forward,
        builds=[hooked(lambda b: b.attn.register_forward_hook(louder_output, with_kwargs=True))],
    ),
    "own-modelhook-of-accelerate": stock(
        "forward of attn was replaced or hooked in layer 0",
        forward,
        builds=[hooked(lambda block: add_hook_to_module(block.attn, Louder()))],
    ),
    "global-pre-hook": stock("a global forward pre-hook", hidden),
    "replaced-call-of-gpt2block": stock("its mask was replaced", called, tolerance=2e-4),
    "replaced-forward-of-gpt2block": stock(
        f"GPT2Block.forward was replaced by {__name__}.replaced.<locals>.forward", replaced
    ),
    "subclass-of-gpt2block": stock(
        "layer 0 is a LouderBlock", forward, builds=[hooked(make_louder)]
    ),
    "replaced-forward-of-a-block": stock(
        "forward was replaced or hooked in layer 0", forward, change=replace_forward
    ),
    "wrapped-block": stock("layer 0 is wrapped in Wrapper", forward, change=wrap),
    "4-d-mask-of-another-width": stock(
        "a 4-D mask [3, 1, 9, 1] of torch.bool, for 9 keys",
        lambda model: forward(model, attention_mask=torch.ones(3, 1, 9, 1).bool()),
    ),
    "2-d-mask-of-another-width": stock(
        "a mask [3, 12] for 3 rows of 9 keys",
        lambda model: forward(model, attention_mask=torch.nn.functional.pad(MASK, (0, 3))),
    ),
    "encoder-mask-of-another-shape": stock(
        "encoder_attention_mask is not a [3, 6] tensor",
        lambda model: forward(
            model,
            encoder_hidden_states=STATES,
            encoder_attention_mask=torch.ones(3, 1, 9, 6).bool(),
        ),
        builds=[with_config(add_cross_attention=True)],
    ),
    "encoder-states-of-one-row": stock(
        "1 rows of encoder states for 3 rows",
        lambda model: forward(model, encoder_hidden_states=STATES[:1]),
        builds=[with_config(add_cross_attention=True)],
    ),
    "registered-attention": stock(
        "attention implementation of_others", forward, builds=[with_registered_attention]
    ),
    "softcap": keyword("softcap", 5.0),
    "s-aux": keyword("s_aux", torch.zeros(2)),
    "position-bias": keyword("position_bias", torch.zeros(1, 2, 9, 9)),
    "sliding-window": keyword("sliding_window", 4),
    "cache-as-a-keyword": keyword("cache", object()),
    **{
        name: stock(f"{name} was given", refused(input_ids=IDS, **{name: 0.5}))
        for name in ("dropout", "key", "module", "query", "scaling", "value")
    },
    "no-input-ids-and-no-inputs-embeds": stock(
        "either input_ids or inputs_embeds is needed", refused(attention_mask=MASK)
    ),
    "empty-input": stock("the input is empty", refused(input_ids=IDS[:, :0])),
    "inputs-embeds-of-4-dimensions": stock(
        "inputs_embeds has 4 dimensions", refused(inputs_embeds=torch.ones(2, 3, 4, 32))
    ),
    "position-ids-of-3-dimensions": stock(
        "position_ids has 3 dimensions",
        refused(input_ids=IDS, position_ids=torch.arange(9).expand(1, 3, 9), use_cache=False),
    ),
    "dict-of-masks": stock(
        "attention_mask is a dict", refused(input_ids=IDS, attention_mask={"full_attention": MASK})
    ),
}
