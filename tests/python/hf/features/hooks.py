"""Hooks and forwards of others, around which the code of transformers runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from hf.features.families import GPT2
from hf.features.feature import IDS, INPUTS, REAL, forward, layers_of, stock
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Block


def block(model: Any) -> Any:
    return layers_of(model)[0]


def hooked(register: Callable[[Any], object]) -> Callable[..., Any]:
    """Makes a model with a hook on its first block."""

    def build(make: Any, **more: Any) -> Any:
        model = make(**more)
        register(block(model))
        return model

    return build


def louder(module: Any, args: Any, output: Any = None) -> Any:
    return (args[0] * 1.5, *args[1:])


def louder_output(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
    return (output[0] * 1.5, *output[1:])


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
    layers_of(model)[0] = Wrapper(block(model))


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


HOOKS = {
    "pre-hook on a block": stock(
        "a forward pre-hook on layer 0",
        forward,
        builds=[hooked(lambda block: block.register_forward_pre_hook(louder))],
        note="it could read or change the mask; until it is removed",
    ),
    "hook `with_kwargs` on `attn`": stock(
        "a hook with_kwargs on attn of layer 0",
        forward,
        builds=[hooked(lambda b: b.attn.register_forward_hook(louder_output, with_kwargs=True))],
        note="the same",
        families=GPT2,
    ),
    "global pre-hook": stock(
        "a global forward pre-hook",
        hidden,
        note="`register_module_forward_pre_hook`, whatever it does",
        families=GPT2,
    ),
    "replaced `call` of `GPT2Block`": stock(
        "its mask was replaced", called, tolerance=2e-4, note="those layers alone", families=GPT2
    ),
    "replaced `forward` of `GPT2Block`": stock(
        f"GPT2Block.forward was replaced by {__name__}.replaced.<locals>.forward",
        replaced,
        note="for all models",
        families=GPT2,
    ),
    "subclass of `GPT2Block`": stock(
        "layer 0 is a LouderBlock",
        forward,
        builds=[hooked(make_louder)],
        note="with a `forward` of its own",
        families=GPT2,
    ),
    "own `ModelHook` of `accelerate`": stock(
        "forward of attn was replaced or hooked in layer 0",
        forward,
        builds=[hooked(lambda block: add_hook_to_module(block.attn, Louder()))],
        note="on a block or `attn`; those of `accelerate` itself change nothing",
        families=GPT2,
    ),
    "replaced `forward` of a block": stock(
        "forward was replaced or hooked in layer 0",
        forward,
        change=replace_forward,
        note="or of an `attn`, after `patch`; `unpatch` works",
    ),
    "wrapped block": stock(
        "layer 0 is wrapped in Wrapper",
        forward,
        change=wrap,
        note="`torch.compile(block)`, FSDP, after `patch`; `unpatch` works",
    ),
}
