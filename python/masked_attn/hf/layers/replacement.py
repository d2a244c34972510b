"""All layers of a model at once: ours where the levels ask for them, stock ones elsewhere."""

from __future__ import annotations

from collections.abc import Container

from torch import nn

from ..instance.forward_slot import forward_slot, take_off
from .activation import (
    ExactActivation,
    FusedGELU,
    fuse_activations,
    hidden_activations,
    restore_activations,
)
from .linear import FastForward, fuse_linears, restore_linears
from .mlp import FastMLP, fuse_mlps, restore_mlps
from .pooling import ExactMean, fuse_pooling, restore_pooling

__all__ = ["replaced_in", "restore_layers", "set_layers"]

KINDS = (ExactActivation, ExactMean, FastForward, FastMLP, FusedGELU)


def set_layers(
    model: nn.Module, backbone: nn.Module, *, fast_linear: bool, fuse_activation: bool
) -> None:
    """Replace the layers that these levels mean, and no others. Twice is once.

    Args:
        model: the backbone or any module around it.
        backbone: layers of other models beside this one stay.
        fast_linear: linear layers on our ``linear``.
        fuse_activation: ``gelu_new`` in one pass; with ``fast_linear`` activations inside of it,
            and those elsewhere, and means over tokens, with the same bits in every batch.
    """
    exact = fast_linear and fuse_activation
    if fast_linear:
        fuse_linears(model, backbone)
    else:
        restore_linears(model)
    if fuse_activation:
        fuse_activations(model, backbone, exact=exact)
    else:
        restore_activations(model)
    if exact:
        fuse_mlps(model, backbone)
        fuse_pooling(model, backbone)
    else:
        restore_mlps(model)
        restore_pooling(model)


def replaced_in(model: nn.Module) -> frozenset[nn.Module]:
    """The modules on which something of ours stands now."""
    return frozenset(
        module
        for module in (*model.modules(), *hidden_activations(model.modules()))
        if isinstance(module.__dict__.get(forward_slot(module)), KINDS)
    )


def restore_layers(model: nn.Module, *, keep: Container[nn.Module] = frozenset()) -> None:
    """Take all that is ours away again, wherever others have moved it.

    Args:
        model: the module that was given to ``set_layers``, or one around it.
        keep: what stands on these modules stays, as ``replaced_in`` gave them before.
    """
    take_off(model, *KINDS, keep=keep)
    restore_activations(model, keep=keep)
