"""GPT-2's ``gelu_new`` in one pass: stock code computes it as eight, each with fresh memory."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Model

from ..instance.forward_slot import ForwardOverride, put_on, runs_own_forward, take_off

__all__ = ["FusedGELU", "fuse_activations", "restore_activations"]


class FusedGELU(ForwardOverride[NewGELUActivation]):
    """``forward`` of a ``NewGELUActivation`` by torch.

    It is the tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2).
    """

    def __call__(self, input: Tensor) -> Tensor:
        """``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``."""
        return gelu(input, approximate="tanh")


def fuse_activations(transformer: GPT2Model) -> None:
    """Give every plain ``gelu_new`` our forward; another activation stays. Twice is once."""
    for mlp in transformer.modules():
        if isinstance(mlp, GPT2MLP):
            act: nn.Module = mlp.act
            if type(act) is NewGELUActivation and runs_own_forward(act):
                put_on(act, FusedGELU)


def restore_activations(transformer: GPT2Model) -> None:
    """Take our forward away again."""
    take_off(transformer, FusedGELU)
