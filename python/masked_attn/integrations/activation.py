"""GPT-2's ``gelu_new`` in one pass: stock code computes it as eight, each with fresh memory."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Block, GPT2Model

__all__ = ["FusedGELU", "fuse_activations", "restore_activations"]


class FusedGELU(NewGELUActivation):
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2), by torch.

    Attributes:
        original: the module in whose place it stands; not a submodule, so no name changes.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.__dict__["original"] = original

    def forward(self, input: Tensor) -> Tensor:
        """``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``."""
        return gelu(input, approximate="tanh")


def fuse_activations(transformer: GPT2Model) -> None:
    """Replace every plain ``gelu_new``; another activation, or one with hooks, stays."""
    for block in _blocks(transformer):
        act = block.mlp.act
        hooked = act._forward_hooks or act._forward_pre_hooks or "forward" in act.__dict__
        if type(act) is NewGELUActivation and not hooked:
            block.mlp.act = FusedGELU(act)


def restore_activations(transformer: GPT2Model) -> None:
    """Put the identical modules back."""
    for block in _blocks(transformer):
        if type(block.mlp.act) is FusedGELU:
            block.mlp.act = block.mlp.act.original


def _blocks(transformer: GPT2Model) -> list[GPT2Block]:
    return [module for module in transformer.modules() if isinstance(module, GPT2Block)]
