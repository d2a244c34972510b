"""What others may have put on the modules of a model: wrappers, hooks, ``forward`` of an instance.

The surprise: accelerate's hooks replace ``forward`` and keep the module's own in ``_old_forward``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_modules

from ..families.family import ModelFamily, module_at
from .forward_slot import forward_slot, is_own, runs_own_forward

__all__ = [
    "attentions_of",
    "inner_layer",
    "mask_reader",
    "require_own_layer",
    "require_own_model",
    "shape_reader",
]

# Attributes of an instance that say: another forward may run.
TRACES = frozenset({"forward", "_hf_hook", "_old_forward"})

# Libraries whose hooks do not mind a batch without its pads, and those whose layers do not.
ONLY_COLLECT = frozenset({"accelerate", "torch", "transformers"})
QUANTIZE = frozenset({"bitsandbytes", "optimum", "torchao"})
WORK_ON_TOKENS = ONLY_COLLECT | QUANTIZE | {"masked_attn", "peft"}
# Among those of transformers: noise whose size depends on the number of tokens of a row.
COUNTS_TOKENS = "transformers.integrations.neftune"


def inner_layer(family: ModelFamily, layer: nn.Module) -> nn.Module:
    """The stock layer, also where others wrapped it."""
    # By name: a model is unpatched, too, where its file is not as it was.
    named = (part for part in layer.modules() if type(part).__name__ == family.layer)
    return next(named, layer)


def attentions_of(family: ModelFamily, layer: nn.Module) -> dict[str, nn.Module]:
    """Self-attention and, if there is one, cross attention, by their paths in the layer."""
    found = {path: module_at(layer, path) for path in family.attentions}
    return {path: module for path, module in found.items() if module is not None}


def require_own_model(family: ModelFamily, backbone: nn.Module) -> None:
    """Refuse a ``forward`` that is not stock's: nobody knows what it does to the masks.

    Raises:
        TypeError: names the class, or what replaced its ``forward``.
    """
    kind, stock = type(backbone), family.backbone_class
    if kind.forward is not stock.forward:
        raise TypeError(f"cannot patch {kind.__name__}: it has a forward of its own")
    if stock.forward.__module__ != stock.__module__:
        by = _name(stock.forward)
        raise TypeError(f"cannot patch {stock.__name__}: its forward was replaced by {by}")


def require_own_layer(family: ModelFamily, layer: Any, number: int) -> None:
    """Refuse attention that others replaced: the patch would undo their work without a word.

    Raises:
        TypeError: names what stands in the way.
    """
    refused = f"cannot patch layer {number}"
    if not isinstance(layer, family.layer_class):
        raise TypeError(f"{refused}: it is wrapped in {type(layer).__name__}; unwrap it first")
    for name, attention in attentions_of(family, layer).items():
        kind = type(attention)
        if kind is not family.attention_type:
            raise TypeError(f"{refused}: {name} is of class {kind.__name__}")
        if kind.forward.__module__ != kind.__module__:
            by = _name(kind.forward)
            raise TypeError(f"{refused}: {kind.__name__}.forward was replaced by {by}")
        if not runs_own_forward(attention):
            by = _name(attention.__dict__[forward_slot(attention)])
            raise TypeError(f"{refused}: forward of its {name} was replaced by {by}")


def mask_reader(family: ModelFamily, backbone: nn.Module) -> str | None:
    """Who may read or change the mask on its way to attention: stock code must then make it.

    Other hooks are no matter: they see the same inputs and outputs as under stock code. This runs
    before every forward, so it looks where changes leave a trace, and closer only at a trace.
    """
    if torch_modules._global_forward_pre_hooks:
        return "a global forward pre-hook"
    kind = family.layer_class
    if kind.forward.__module__ != kind.__module__:
        return f"{kind.__name__}.forward was replaced by {_name(kind.forward)}"
    for number, layer in enumerate(family.layers_of(backbone)):
        if not isinstance(layer, kind):
            return f"layer {number} is wrapped in {type(layer).__name__}"
        if type(layer).forward is not kind.forward:
            return f"layer {number} is a {type(layer).__name__}"
        reader = _mask_reader_in(family, layer, number)
        if reader is not None:
            return reader
    return None


def _mask_reader_in(family: ModelFamily, layer: nn.Module, number: int) -> str | None:
    """The same for one layer: it, what holds its attention, and its attention."""
    if layer._forward_pre_hooks:
        return f"a forward pre-hook on layer {number}"
    if not _passes_masks_on(layer):
        return f"forward was replaced or hooked in layer {number}"
    for path in family.attentions:
        held: nn.Module | None = layer
        *around, last = path.split(".")
        for name in around:
            held = None if held is None else held._modules.get(name)
            if held is not None and held._forward_pre_hooks:
                return f"a forward pre-hook on {name} of layer {number}"
            if held is not None and not _passes_masks_on(held):
                return f"forward of {name} was replaced or hooked in layer {number}"
        held = None if held is None else held._modules.get(last)
        if held is None:
            continue
        if held._forward_pre_hooks_with_kwargs or held._forward_hooks_with_kwargs:
            return f"a hook with_kwargs on {path} of layer {number}"
        if not _passes_masks_on(held):
            return f"forward of {path} was replaced or hooked in layer {number}"
    return None


def shape_reader(backbone: nn.Module, previous: Any) -> str | None:
    """Who may look at the shape of what flows between modules: it must then be the padded one.

    Modules of libraries whose layers work on each token alone do not, nor do hooks of transformers
    (which collect hidden states), of torch (which make weights) and of accelerate (which move
    tensors).

    Args:
        backbone: the model.
        previous: the ``forward`` that was set on it before the patch, or None.
    """
    if torch_modules._has_any_global_hook():
        return "a global hook"
    if _library(type(backbone).forward) not in ONLY_COLLECT:
        return f"{type(backbone).__name__}.forward was replaced by {_name(type(backbone).forward)}"
    own = previous is None or is_own(previous, backbone)
    if not own and _library(previous) != "accelerate":  # that one changes dtypes
        return f"forward of the model was replaced by {_name(previous)}"
    for name, module in backbone.named_modules():
        if module is backbone:
            continue
        if getattr(module, "chunk_size_feed_forward", 0):  # it cuts the padded length evenly
            return f"chunk_size_feed_forward of {name}"
        kind = type(module)
        if not {_library(kind.forward), _library(kind.__call__)} <= WORK_ON_TOKENS:
            return f"{name} is a {kind.__module__}.{kind.__qualname__}"
        if not _passes_masks_on(module):
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
    """Whether the module runs its own ``forward``, perhaps beneath a hook that moves tensors."""
    if TRACES.isdisjoint(module.__dict__):
        return True
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
