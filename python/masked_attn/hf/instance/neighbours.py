"""What others may have put on the modules of a GPT-2: wrappers, hooks, ``forward`` of an instance.

The surprise: accelerate's hooks replace ``forward`` and keep the module's own in ``_old_forward``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_modules
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block, GPT2Model

from .forward_slot import forward_slot, is_own, runs_own_forward

__all__ = [
    "attentions_of",
    "blocks_of",
    "mask_reader",
    "require_own_block",
    "require_own_model",
    "shape_reader",
]


ATTENTIONS = ("attn", "crossattention")
# Attributes of an instance that say: another forward may run.
TRACES = frozenset({"forward", "_hf_hook", "_old_forward"})

# Libraries whose hooks do not mind a batch without its pads, and those whose layers do not.
ONLY_COLLECT = frozenset({"accelerate", "torch", "transformers"})
QUANTIZE = frozenset({"bitsandbytes", "optimum", "torchao"})
WORK_ON_TOKENS = ONLY_COLLECT | QUANTIZE | {"masked_attn", "peft"}
# Among those of transformers: noise whose size depends on the number of tokens of a row.
COUNTS_TOKENS = "transformers.integrations.neftune"


def blocks_of(transformer: GPT2Model) -> list[GPT2Block]:
    """The blocks, also where others wrapped them."""
    return [
        next((module for module in layer.modules() if isinstance(module, GPT2Block)), layer)
        for layer in transformer.h
    ]


def attentions_of(block: nn.Module) -> dict[str, nn.Module]:
    """Self-attention and, if there is one, cross attention, by the names of their attributes."""
    held = block._modules
    return {name: module for name in ATTENTIONS if (module := held.get(name)) is not None}


def require_own_model(transformer: GPT2Model) -> None:
    """Refuse a ``forward`` that is not stock's: nobody knows what it does to the masks.

    Raises:
        TypeError: names the class, or what replaced its ``forward``.
    """
    kind = type(transformer)
    if kind.forward is not GPT2Model.forward:
        raise TypeError(f"cannot patch {kind.__name__}: it has a forward of its own")
    if GPT2Model.forward.__module__ != GPT2Model.__module__:
        by = _name(GPT2Model.forward)
        raise TypeError(f"cannot patch GPT2Model: its forward was replaced by {by}")


def require_own_block(layer: Any, number: int) -> None:
    """Refuse attention that others replaced: the patch would undo their work without a word.

    Raises:
        TypeError: names what stands in the way.
    """
    refused = f"cannot patch layer {number}"
    if not isinstance(layer, GPT2Block):
        raise TypeError(f"{refused}: it is wrapped in {type(layer).__name__}; unwrap it first")
    for name, attention in attentions_of(layer).items():
        kind = type(attention)
        if kind is not GPT2Attention:
            raise TypeError(f"{refused}: {name} is of class {kind.__name__}")
        if kind.forward.__module__ != kind.__module__:
            by = _name(kind.forward)
            raise TypeError(f"{refused}: GPT2Attention.forward was replaced by {by}")
        if not runs_own_forward(attention):
            by = _name(attention.__dict__[forward_slot(attention)])
            raise TypeError(f"{refused}: forward of its {name} was replaced by {by}")


def mask_reader(transformer: GPT2Model) -> str | None:
    """Who may read or change the mask on its way to attention: stock code must then make it.

    Other hooks are no matter: they see the same inputs and outputs as under stock code. This runs
    before every forward, so it looks where changes leave a trace, and closer only at a trace.
    """
    if torch_modules._global_forward_pre_hooks:
        return "a global forward pre-hook"
    if GPT2Block.forward.__module__ != GPT2Block.__module__:
        return f"GPT2Block.forward was replaced by {_name(GPT2Block.forward)}"
    for number, block in enumerate(transformer.h):
        if not isinstance(block, GPT2Block):
            return f"block {number} is wrapped in {type(block).__name__}"
        if type(block).forward is not GPT2Block.forward:
            return f"block {number} is a {type(block).__name__}"
        if block._forward_pre_hooks:
            return f"a forward pre-hook on block {number}"
        held = block._modules
        for name in ATTENTIONS:
            module = held.get(name)
            if module is None:
                continue
            if module._forward_pre_hooks_with_kwargs or module._forward_hooks_with_kwargs:
                return f"a hook with_kwargs on {name} of block {number}"
            if not TRACES.isdisjoint(module.__dict__) and not _passes_masks_on(module):
                return f"forward of {name} was replaced or hooked in block {number}"
        if not TRACES.isdisjoint(block.__dict__) and not _passes_masks_on(block):
            return f"forward was replaced or hooked in block {number}"
    return None


def shape_reader(transformer: GPT2Model, previous: Any) -> str | None:
    """Who may look at the shape of what flows between modules: it must then be the padded one.

    Modules of libraries whose layers work on each token alone do not, nor do hooks of transformers
    (which collect hidden states), of torch (which make weights) and of accelerate (which move
    tensors).

    Args:
        transformer: the model.
        previous: the ``forward`` that was set on it before the patch, or None.
    """
    if torch_modules._has_any_global_hook():
        return "a global hook"
    if _library(type(transformer).forward) not in ONLY_COLLECT:
        return f"GPT2Model.forward was replaced by {_name(type(transformer).forward)}"
    own = previous is None or is_own(previous, transformer)
    if not own and _library(previous) != "accelerate":  # that one changes dtypes
        return f"forward of the model was replaced by {_name(previous)}"
    for name, module in transformer.named_modules():
        if module is transformer:
            continue
        kind = type(module)
        if not {_library(kind.forward), _library(kind.__call__)} <= WORK_ON_TOKENS:
            return f"{name} is a {kind.__module__}.{kind.__qualname__}"
        if not TRACES.isdisjoint(module.__dict__) and not _passes_masks_on(module):
            return f"forward of {name} was replaced or hooked"
        for hook in _hooks(module):
            if _library(hook) not in ONLY_COLLECT or _module(hook) == COUNTS_TOKENS:
                return f"the hook {_name(hook)} on {name}"
    return None


def _hooks(module: nn.Module) -> Iterator[Any]:
    yield from module._forward_pre_hooks.values()
    yield from module._forward_hooks.values()
    yield from module._backward_pre_hooks.values()
    yield from module._backward_hooks.values()


def _passes_masks_on(module: nn.Module) -> bool:
    return _only_moves(module) and runs_own_forward(module)


def _only_moves(module: nn.Module) -> bool:
    """Whether a hook put on by accelerate is one of its own: they move tensors, no more."""
    hook = module.__dict__.get("_hf_hook")
    hooks = () if hook is None else getattr(hook, "hooks", (hook,))
    return all(type(part).__module__.partition(".")[0] == "accelerate" for part in hooks)


def _module(function: Any) -> str:
    return getattr(function, "__module__", None) or type(function).__module__


def _library(function: Any) -> str:
    return _module(function).partition(".")[0]


def _name(function: Any) -> str:
    return f"{_module(function)}.{getattr(function, '__qualname__', type(function).__qualname__)}"
