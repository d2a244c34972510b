"""``forward`` in the ``__dict__`` of one instance: where it is, what stands in, the way back.

The surprise: accelerate's hooks replace ``forward`` and keep the module's own in ``_old_forward``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from types import CodeType
from typing import Any

from torch import nn

from .override import Model, Override

__all__ = [
    "ForwardOverride",
    "forward_slot",
    "is_own",
    "put_on",
    "restore_attribute",
    "restore_forward",
    "runs_own_forward",
    "runs_stock_forward",
    "take_off",
]


class ForwardOverride(Override[Model]):
    """What stands in for ``forward``, with the signature of the class's own."""

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(type(self.model).forward.__get__(self.model))

    @property
    def __code__(self) -> CodeType:
        """``torch.export`` reads it of the module that it is given."""
        code: CodeType = type(self.model).forward.__code__
        return code


def forward_slot(module: nn.Module) -> str:
    """The instance attribute that holds the module's own ``forward``, if any does."""
    hooked = "_hf_hook" in module.__dict__ and "_old_forward" in module.__dict__
    return "_old_forward" if hooked else "forward"


def restore_forward(module: nn.Module, previous: Callable[..., Any] | None) -> None:
    """Take the ``forward`` that stood in on this instance away; ``previous`` was there before."""
    slot = forward_slot(module)
    if previous is None and slot != "forward":  # a hook put on since then needs what it wraps
        previous = type(module).forward.__get__(module)
    restore_attribute(module, slot, previous)


def restore_attribute(module: nn.Module, name: str, previous: Callable[..., Any] | None) -> None:
    """What stood in under this name goes; ``previous`` was there before, or nothing."""
    if previous is None:
        del module.__dict__[name]
    else:
        module.__dict__[name] = previous


def put_on(module: nn.Module, kind: type[ForwardOverride[Any]]) -> None:
    """A ``kind`` stands in for ``forward``; twice is once."""
    slot = forward_slot(module)
    current = module.__dict__.get(slot)
    if not isinstance(current, kind):
        module.__dict__[slot] = kind(module, current)


def take_off(
    model: nn.Module,
    *kinds: type[ForwardOverride[Any]],
    keep: Container[nn.Module] = frozenset(),
) -> None:
    """No module inside, but for those to keep, has one of these any more, wherever it was moved."""
    for module in model.modules():
        current = module.__dict__.get(forward_slot(module))
        if isinstance(current, kinds) and module not in keep:
            restore_forward(module, current.previous)


def runs_own_forward(module: nn.Module) -> bool:
    """Whether ``forward`` is that of the class, or one of ours on top of it."""
    forward = module.__dict__.get(forward_slot(module))
    if isinstance(forward, Override):
        forward = forward.previous
    return forward is None or is_own(forward, module)


def runs_stock_forward(module: nn.Module) -> bool:
    """The same, where ``forward`` of the class is also the one that the class came with."""
    kind = type(module)
    return kind.forward.__module__ == kind.__module__ and runs_own_forward(module)


def is_own(forward: Any, module: nn.Module) -> bool:
    """Whether this is the bound ``forward`` of the module's class."""
    return getattr(forward, "__func__", None) is type(module).forward
