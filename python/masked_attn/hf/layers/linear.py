"""Linear layers of any model on our ``linear``, where a row has the same bits in every batch.

A layer keeps its class; its instance gets another ``forward``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ...functional import linear
from ..call.visibility import has_tangent, wants_grad
from ..instance.forward_slot import ForwardOverride, put_on, runs_stock_forward, take_off
from .scope import modules_around

__all__ = ["FastForward", "fuse_linears", "restore_linears", "takes"]

DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})
PLAIN = frozenset({Tensor, nn.Parameter})
KINDS = frozenset({Conv1D, nn.Linear})


class FastForward(ForwardOverride[Any]):
    """``forward`` of a ``Conv1D`` or an ``nn.Linear``: by our ``linear``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        layer = self.model
        if len(args) == 1 and not kwargs and takes(args[0], layer.weight, layer.bias):
            transposed = isinstance(layer, Conv1D)
            return linear(args[0], layer.weight, layer.bias, transposed=transposed)
        out: Tensor = self.beneath("forward")(*args, **kwargs)
        return out


def fuse_linears(model: nn.Module, backbone: nn.Module) -> None:
    """Give every plain ``nn.Linear`` and ``Conv1D`` of a model, and around it, our forward.

    Plain is the class itself with its own ``forward``. A quantised or parametrised layer stays, and
    so does an adapter, whose ``base_layer`` is taken. Twice is once.

    Args:
        model: the backbone or any module around it; its heads are taken too.
        backbone: layers of other models beside this one stay.
    """
    for layer in modules_around(model, backbone):
        if type(layer) in KINDS and runs_stock_forward(layer):
            put_on(layer, FastForward)


def restore_linears(model: nn.Module) -> None:
    """Take our forward away again, wherever adapters have moved the layers.

    Args:
        model: the module that was given to ``fuse_linears``, or one around it.
    """
    take_off(model, FastForward)


def takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether our ``linear`` computes this product, and not torch's."""
    if wants_grad(x, weight, bias):
        return False
    if not torch.compiler.is_compiling() and has_tangent(x, weight, bias):
        return False
    # A subclass, as torchao's quantised weights, has products of its own.
    if type(x) not in PLAIN or type(weight) not in PLAIN or weight.layout is not torch.strided:
        return False
    if not (x.is_cpu and weight.is_cpu):
        return False
    if torch.is_autocast_enabled("cpu"):  # gives all of them one dtype
        return True
    same = weight.dtype == x.dtype and (bias is None or bias.dtype == x.dtype)
    return same and x.dtype in DTYPES
