"""MLPs and heads with their activation inside our ``linear``, so that bits follow the row alone.

The surprise: it looks at each call whether all parts are plain, for others may change them later.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from ...functional.linear import Activation
from ..instance.forward_slot import ForwardOverride, put_on, runs_stock_forward, take_off
from .activation import inside_of_linear
from .linear import KINDS, FastForward, takes
from .recipes import Recipe, recipe_of
from .scope import modules_around

__all__ = ["FastMLP", "fuse_mlps", "restore_mlps"]


class FastMLP(ForwardOverride[Any]):
    """``forward`` of a class with a recipe: first layer and activation by one ``linear``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        mlp = self.model
        recipe = recipe_of(type(mlp))
        if recipe is not None and len(args) == 1 and not kwargs:
            name, first = _activation(mlp, recipe), mlp._modules.get(recipe.first)
            if name is not None and takes(args[0], first.weight, first.bias):
                return recipe.run(mlp, args[0], name)
        out: Tensor = self.beneath("forward")(*args, **kwargs)
        return out


def fuse_mlps(model: nn.Module, backbone: nn.Module) -> None:
    """Give every MLP and head that has a recipe our forward, where its own is stock's.

    It looks at each call whether first layer and activation are plain, with ``fuse_linears`` on
    them, and else runs what is beneath. Twice is once.

    Args:
        model: the backbone or any module around it.
        backbone: modules of other models beside this one stay.
    """
    for module in modules_around(model, backbone):
        if recipe_of(type(module)) is not None and runs_stock_forward(module):
            put_on(module, FastMLP)


def restore_mlps(model: nn.Module) -> None:
    """Take our forward away again."""
    take_off(model, FastMLP)


def _activation(mlp: nn.Module, recipe: Recipe) -> Activation | None:
    """What ``linear`` calls the activation; None where somebody may see what goes into it."""
    held = mlp._modules
    if held.keys() != recipe.parts or torch_modules._has_any_global_hook():
        return None
    # Slices of a sequence, to save memory: our one pass would need it all at once.
    if mlp.__dict__.get("chunk_size_feed_forward"):
        return None
    first: Any = held[recipe.first]
    # With a hook of accelerate, `forward` is the hook.
    ours = type(first) in KINDS and isinstance(first.__dict__.get("forward"), FastForward)
    if not ours or _has_hooks(first):
        return None
    if recipe.act is None:
        return recipe.function
    act = held[recipe.act]
    return None if act is None or _has_hooks(act) else inside_of_linear(act)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )
