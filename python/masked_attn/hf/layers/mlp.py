"""The MLP of a block with its activation inside our ``linear``, so that bits follow the row alone.

The surprise: torch's ``gelu`` and ``silu`` use another formula for the last elements of a tensor or
of a thread's share, so with an activation of its own a row has other bits in another batch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from transformers.activations import (
    GELUActivation,
    GELUTanh,
    NewGELUActivation,
    SiLUActivation,
)
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

from ...functional import linear
from ...functional.linear import Activation
from ..instance.forward_slot import ForwardOverride, put_on, runs_own_forward, take_off
from .activation import FusedGELU
from .linear import FastForward, takes

__all__ = ["FastMLP", "fuse_mlps", "restore_mlps"]

# Which of ``linear``'s activations is that of a module; any other runs by itself.
ACTIVATIONS: dict[type[nn.Module], Activation] = {
    NewGELUActivation: "gelu_tanh",
    GELUTanh: "gelu_tanh",
    GELUActivation: "gelu",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    SiLUActivation: "silu",
}
PARTS = {"c_fc", "act", "c_proj", "dropout"}


class FastMLP(ForwardOverride[GPT2MLP]):
    """``forward`` of a ``GPT2MLP``: its first layer and its activation by one ``linear``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        mlp = self.model
        name = _activation(mlp)
        if name is not None and len(args) == 1 and not kwargs:
            (x,), first = args, mlp.c_fc
            if takes(x, first.weight, first.bias):
                wide = linear(x, first.weight, first.bias, transposed=True, activation=name)
                out: Tensor = mlp.dropout(mlp.c_proj(wide))
                return out
        out = self.beneath("forward")(*args, **kwargs)
        return out


def fuse_mlps(model: nn.Module) -> None:
    """Give the MLP of every GPT-2 block our forward, where it is stock's. Twice is once.

    It looks at each call whether first layer and activation are plain, with ``fuse_linears`` on
    them, and else runs what is beneath.

    Args:
        model: any module with a GPT-2 inside.
    """
    for mlp in model.modules():
        if type(mlp) is GPT2MLP and _is_own(mlp):
            put_on(mlp, FastMLP)


def restore_mlps(model: nn.Module) -> None:
    """Take our forward away again."""
    take_off(model, FastMLP)


def _activation(mlp: GPT2MLP) -> Activation | None:
    """What ``linear`` calls the activation; None where somebody may see what goes into it."""
    held = mlp._modules
    if held.keys() != PARTS or torch_modules._has_any_global_hook():
        return None
    first, act = held["c_fc"], held["act"]
    assert first is not None and act is not None
    name = ACTIVATIONS.get(type(act))
    if name is None or type(first) is not Conv1D or _has_hooks(first) or _has_hooks(act):
        return None
    # With a hook of accelerate, `forward` is the hook.
    ours = isinstance(first.__dict__.get("forward"), FastForward)
    beneath = act.__dict__.get("forward")
    plain = _is_own(act) and (beneath is None or isinstance(beneath, FusedGELU))
    return name if ours and plain else None


def _is_own(module: nn.Module) -> bool:
    """Whether ``forward`` is the one that its class came with, or ours on top of it."""
    kind = type(module)
    return kind.forward.__module__ == kind.__module__ and runs_own_forward(module)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )
