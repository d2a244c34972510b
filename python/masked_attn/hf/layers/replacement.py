"""All layers of a model at once: ours where the levels ask for them, stock ones elsewhere."""

from __future__ import annotations

from torch import nn

from ..instance.forward_slot import take_off
from .activation import fuse_activations, restore_activations
from .linear import FastForward, fuse_linears, restore_linears
from .mlp import FastMLP, fuse_mlps, restore_mlps
from .pooling import ExactMean, fuse_pooling, restore_pooling

__all__ = ["restore_layers", "set_layers"]


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


def restore_layers(model: nn.Module, *, but: nn.Module | None = None) -> None:
    """Take all that is ours away again, wherever others have moved it.

    Args:
        model: the module that was given to ``set_layers``, or one around it.
        but: what is inside of this stays.
    """
    keep = frozenset() if but is None else frozenset(but.modules())
    take_off(model, FastForward, FastMLP, ExactMean, keep=keep)
    restore_activations(model, keep=keep)
