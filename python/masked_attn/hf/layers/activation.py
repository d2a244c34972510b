"""Activations that run outside ``linear``: in one pass, or with the same bits at every place.

The surprise: torch's ``gelu``, ``silu`` and ``sigmoid`` use another formula for the last elements
of a tensor or of a thread's share, so with them a row has other bits in another batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers.activations import (
    GELUActivation,
    GELUTanh,
    NewGELUActivation,
    QuickGELUActivation,
    SiLUActivation,
)

from ...functional.linear import Activation
from ..call.visibility import has_tangent, wants_grad
from ..instance.forward_slot import ForwardOverride, put_on, runs_stock_forward, take_off
from .linear import PLAIN
from .scope import modules_around

__all__ = [
    "ExactActivation",
    "FusedGELU",
    "fuse_activations",
    "hidden_activations",
    "inside_of_linear",
    "restore_activations",
]

HALVES = frozenset({torch.float16, torch.bfloat16})


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + e^-x)``."""
    return x.neg().exp_().add_(1).reciprocal_()


def silu(x: Tensor) -> Tensor:
    """``x / (1 + e^-x)``."""
    return x / x.neg().exp_().add_(1)


def quick_gelu(x: Tensor) -> Tensor:
    """``x / (1 + e^(-1.702 x))``."""
    return x / x.mul(-1.702).exp_().add_(1)


def gelu_tanh(x: Tensor) -> Tensor:
    """``0.5 x (1 + tanh(u))``, which is ``x / (1 + e^(-2u))``: there nothing cancels."""
    minus_2u = x.square().mul_(0.044715).add_(1).mul_(x).mul_(-2 * math.sqrt(2 / math.pi))
    return x / minus_2u.exp_().add_(1)


def gelu_erf(x: Tensor) -> Tensor:
    """``0.5 x (1 + erf(x / sqrt(2)))`` by ``erfc(-x / sqrt(2))``: there nothing cancels."""
    return x.mul(-math.sqrt(0.5)).erfc_().mul_(x).mul_(0.5)


# Made of operations of torch that are the same at every place of a tensor.
FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "sigmoid": sigmoid,
    "silu": silu,
}
NAMES: dict[type[nn.Module], str] = {
    GELUActivation: "gelu",
    GELUTanh: "gelu_tanh",
    NewGELUActivation: "gelu_tanh",
    QuickGELUActivation: "quick_gelu",
    SiLUActivation: "silu",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
}
# Those that ``linear`` has.
INSIDE: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


class FusedGELU(ForwardOverride[NewGELUActivation]):
    """``forward`` of a ``NewGELUActivation`` by torch, in one pass.

    Stock code needs eight, each with fresh memory. It is the tanh approximation of GELU (Hendrycks
    and Gimpel 2016, section 2).
    """

    def __call__(self, input: Tensor) -> Tensor:
        """``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``."""
        return gelu(input, approximate="tanh")


class ExactActivation(ForwardOverride[Any]):
    """``forward`` of an activation, with the same bits for an element wherever it stands."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        formula = FORMULAS.get(_name(self.model) or "")
        if formula is None or kwargs or len(args) != 1 or not _takes(args[0]):
            out: Tensor = self.beneath("forward")(*args, **kwargs)
            return out
        x: Tensor = args[0]
        return formula(x.float()).to(x.dtype) if x.dtype in HALVES else formula(x)


def fuse_activations(model: nn.Module, backbone: nn.Module, *, exact: bool = False) -> None:
    """Give activations our forward; others stay. Twice is once.

    Args:
        model: the backbone or any module around it.
        backbone: activations of other models beside this one stay.
        exact: the same bits at every place, for all that are known here. False is ``gelu_new`` in
            one pass, and nothing else.
    """
    modules = modules_around(model, backbone)
    for act in (*modules, *hidden_activations(modules)):
        if _name(act) not in FORMULAS or not runs_stock_forward(act):
            continue
        if exact:
            take_off(act, FusedGELU)
            put_on(act, ExactActivation)
        else:
            take_off(act, ExactActivation)
            if type(act) is NewGELUActivation:
                put_on(act, FusedGELU)


def restore_activations(model: nn.Module, *, keep: Container[nn.Module] = frozenset()) -> None:
    """Take our forward away again, but from those to keep."""
    for part in (model, *hidden_activations(model.modules())):
        take_off(part, ExactActivation, FusedGELU, keep=keep)


def inside_of_linear(act: nn.Module) -> Activation | None:
    """What ``linear`` calls an activation; None for others, and where somebody put a forward."""
    forward = act.__dict__.get("forward")
    plain = forward is None or isinstance(forward, (ExactActivation, FusedGELU))
    return INSIDE.get(_name(act) or "") if plain and runs_stock_forward(act) else None


def _name(act: nn.Module) -> str | None:
    if type(act) is nn.GELU:
        return "gelu" if act.approximate == "none" else "gelu_tanh"
    return None if act.__dict__.get("inplace") else NAMES.get(type(act))


def hidden_activations(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The activation that a ``CrossEncoder`` holds outside of its modules."""
    for module in modules:
        act = module.__dict__.get("activation_fn")
        if isinstance(act, nn.Module):
            yield act


def _takes(x: Any) -> bool:
    """Whether the formula computes this, and not torch's function."""
    if type(x) not in PLAIN or not x.is_cpu or not x.is_floating_point() or wants_grad(x):
        return False
    return not torch.compiler.is_compiling() and not has_tangent(x)
