"""GPT-2's ``gelu_new`` in one pass: stock code computes it as eight, each with fresh memory."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Model

from .neighbours import TRACES, hand_over_forward

__all__ = ["FusedGELU", "fuse_activations", "restore_activations"]


class FusedGELU(NewGELUActivation):
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2), by torch."""

    @classmethod
    def sharing(cls, original: nn.Module) -> FusedGELU:
        """A module that is ``original`` in all but its class: one ``__dict__`` for both."""
        shared = cls.__new__(cls)
        object.__setattr__(shared, "__dict__", original.__dict__)
        return shared

    def forward(self, input: Tensor) -> Tensor:
        """``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``."""
        return gelu(input, approximate="tanh")


def fuse_activations(transformer: GPT2Model) -> list[tuple[GPT2MLP, nn.Module]]:
    """Replace every plain ``gelu_new``; another activation, or one with hooks, stays.

    Returns:
        Where one was replaced, and by what: ``restore_activations`` takes it.
    """
    replaced = []
    for mlp in transformer.modules():
        if isinstance(mlp, GPT2MLP) and _is_plain(mlp.act):
            replaced.append((mlp, mlp.act))
            mlp.act = FusedGELU.sharing(mlp.act)
    return replaced


def restore_activations(replaced: Iterable[tuple[GPT2MLP, nn.Module]]) -> None:
    """Put the identical modules back, but not in the place of what others put there since."""
    for mlp, original in replaced:
        if type(mlp.act) is FusedGELU:
            # Copies and pickles of a patched model no longer share the dict.
            object.__setattr__(original, "__dict__", mlp.act.__dict__)
            hand_over_forward(mlp.act, original)
            mlp.act = original


def _is_plain(act: nn.Module) -> bool:
    hooked = act._forward_hooks or act._forward_pre_hooks or not TRACES.isdisjoint(act.__dict__)
    return type(act) is NewGELUActivation and not hooked
