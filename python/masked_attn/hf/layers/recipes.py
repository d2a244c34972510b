"""What ``linear`` can do of each MLP and head with an activation: one row for each class.

The surprise: classes stand here by name, so that no model is imported that nobody uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ...functional import linear
from ...functional.linear import Activation
from .linear import takes

__all__ = ["Chain", "FusedGate", "Gated", "Recipe", "recipe_of"]


@dataclass(frozen=True)
class Recipe:
    """A class whose ``forward`` is known: it has these parts, and runs them in this order.

    Attributes:
        first: the linear layer whose result goes into the activation.
        act: the activation; None where the class calls a function, ``function``.
        rest: what follows, in order.
        function: the name that ``linear`` has for that function.
        up: the layer whose result the activation is multiplied by, if there is one.
        parts: the names of all modules that an instance holds.
    """

    first: str
    act: str | None
    rest: tuple[str, ...] = ()
    function: Activation | None = None
    up: str | None = None
    # An attribute and no property: every forward reads it, and torch.compile traces no lock.
    parts: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = (self.first, self.act, self.up, *self.rest)
        object.__setattr__(self, "parts", frozenset(name for name in names if name is not None))

    def run(self, module: nn.Module, x: Tensor, name: Activation) -> Tensor:
        """``forward`` of ``module``, its activation (``name``) inside ``linear``."""
        wide = self.activated(module._modules, x, name)
        for part in self.rest:
            wide = module._modules[part](wide)  # type: ignore[misc]
        return wide

    def activated(self, held: dict[str, Any], x: Tensor, name: Activation) -> Tensor:
        """All up to the activation, and what it is multiplied by."""
        raise NotImplementedError


@dataclass(frozen=True)
class Chain(Recipe):
    """``act(first(x))``."""

    def activated(self, held: dict[str, Any], x: Tensor, name: Activation) -> Tensor:
        first = held[self.first]
        transposed = isinstance(first, Conv1D)
        return linear(x, first.weight, first.bias, transposed=transposed, activation=name)


@dataclass(frozen=True)
class Gated(Recipe):
    """``act(first(x)) * up(x)``."""

    def activated(self, held: dict[str, Any], x: Tensor, name: Activation) -> Tensor:
        gate, up = held[self.first], held[str(self.up)](x)
        # Whatever stands at ``up`` may be an adapter in training, or a layer of another dtype.
        if takes(up, gate.weight, gate.bias):
            return linear(x, gate.weight, gate.bias, activation=name, multiplier=up)
        wide: Tensor = held[str(self.act)](gate(x)) * up
        return wide


@dataclass(frozen=True)
class FusedGate(Recipe):
    """``act(a) * b``, where ``a`` and ``b`` are the halves of ``first(x)``."""

    def activated(self, held: dict[str, Any], x: Tensor, name: Activation) -> Tensor:
        first = held[self.first]
        gate, up = first.weight.chunk(2)
        gate_bias, up_bias = (None, None) if first.bias is None else first.bias.chunk(2)
        return linear(x, gate, gate_bias, activation=name, multiplier=linear(x, up, up_bias))


INTERMEDIATE = Chain("dense", "intermediate_act_fn")
LM_HEAD = Chain("dense", None, ("layer_norm", "decoder"), function="gelu")
GATED = Gated("gate_proj", "act_fn", ("down_proj",), up="up_proj")

# By the name of the model in transformers, then of the class.
TABLE: dict[str, dict[str, Recipe]] = {
    "gpt2": {"GPT2MLP": Chain("c_fc", "act", ("c_proj", "dropout"))},
    "llama": {"LlamaMLP": GATED},
    "qwen2": {"Qwen2MLP": GATED},
    "qwen3": {"Qwen3MLP": GATED},
    "mistral": {"MistralMLP": GATED},
    "gemma2": {"Gemma2MLP": GATED},
    "gemma3": {"Gemma3MLP": GATED},
    "granite": {"GraniteMLP": GATED},
    "smollm3": {"SmolLM3MLP": GATED},
    "phi3": {"Phi3MLP": FusedGate("gate_up_proj", "activation_fn", ("down_proj",))},
    "stablelm": {"StableLmMLP": GATED},
    "gpt_neox": {"GPTNeoXMLP": Chain("dense_h_to_4h", "act", ("dense_4h_to_h",))},
    "qwen3_moe": {"Qwen3MoeMLP": GATED},
    "bert": {
        "BertIntermediate": INTERMEDIATE,
        "BertPredictionHeadTransform": Chain("dense", "transform_act_fn", ("LayerNorm",)),
    },
    "roberta": {"RobertaIntermediate": INTERMEDIATE, "RobertaLMHead": LM_HEAD},
    "xlm_roberta": {"XLMRobertaIntermediate": INTERMEDIATE, "XLMRobertaLMHead": LM_HEAD},
    "distilbert": {"FFN": Chain("lin1", "activation", ("lin2", "dropout"))},
    "electra": {
        "ElectraIntermediate": INTERMEDIATE,
        "ElectraGeneratorPredictions": Chain("dense", "activation", ("LayerNorm",)),
    },
    "modernbert": {
        "ModernBertMLP": FusedGate("Wi", "act", ("drop", "Wo")),
        "ModernBertPredictionHead": Chain("dense", "act", ("norm",)),
    },
}
RECIPES = {
    (f"transformers.models.{model}.modeling_{model}", name): recipe
    for model, rows in TABLE.items()
    for name, recipe in rows.items()
}


def recipe_of(kind: type[nn.Module]) -> Recipe | None:
    """The row of a class; a subclass has none, for it may run its parts otherwise."""
    return RECIPES.get((kind.__module__, kind.__qualname__))
