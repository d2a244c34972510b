"""The families of models that the rows are run on.

A new family is one entry of ``SMALL``, and its name in a group. Then every row of that group is run
on it; a row of another group takes it as ``families=GPT2 + LLAMA``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hf.families.models import FAMILIES
from hf.models import gpt2


def small_gpt2(*, head_dim: int = 16, **more: Any) -> Any:
    return gpt2(embed=2 * head_dim, **more)


def small(name: str, usual: str) -> Callable[..., Any]:
    """Make the model that the tests of families have under this name, with this head."""

    def build(*, head: str = usual, **more: Any) -> Any:
        return FAMILIES[name].build(head, **{"implementation": "sdpa", **more})

    return build


# Make a small model with a head of language. Keywords: ``implementation``, of decoders
# ``head_dim``, of all but GPT-2 another ``head``, and others of its config.
SMALL: dict[str, Callable[..., Any]] = {
    "GPT-2": small_gpt2,
    "Llama": small("llama", "ForCausalLM"),
    "Qwen2": small("qwen2", "ForCausalLM"),
    "Qwen3": small("qwen3", "ForCausalLM"),
    "Mistral": small("mistral", "ForCausalLM"),
    "Gemma 3": small("gemma3", "ForCausalLM"),
    "BERT": small("bert", "ForMaskedLM"),
    "RoBERTa": small("roberta", "ForMaskedLM"),
    "XLM-RoBERTa": small("xlm_roberta", "ForMaskedLM"),
    "Electra": small("electra", "ForMaskedLM"),
    "DistilBERT": small("distilbert", "ForMaskedLM"),
    "ModernBERT": small("modernbert", "ForMaskedLM"),
}


@dataclass(frozen=True)
class Families:
    """Some families, and what the page calls them together."""

    label: str
    names: tuple[str, ...]

    def __add__(self, others: Families) -> Families:
        return Families(f"{self.label}, {others.label}", (*self.names, *others.names))

    def __sub__(self, others: Families) -> Families:
        left = tuple(name for name in self.names if name not in others.names)
        return Families(f"{self.label} but {others.label}", left)


def family(name: str) -> Families:
    return Families(name, (name,))


GPT2, LLAMA, MISTRAL = family("GPT-2"), family("Llama"), family("Mistral")
GEMMA3, BERT, MODERNBERT = family("Gemma 3"), family("BERT"), family("ModernBERT")
# Positions turn queries and keys; MLPs have a gate.
ROTARY = ("Llama", "Qwen2", "Qwen3", "Mistral", "Gemma 3")
# Their layers say at each call how wide their window is, or that they have none.
WIDTH_IS_SAID = ("Qwen2", "Qwen3", "Mistral", "Gemma 3")
DECODERS = Families("decoders", ("GPT-2", *ROTARY))
LIKE_BERT = ("BERT", "RoBERTa", "XLM-RoBERTa", "Electra")
ENCODERS = Families("encoders", (*LIKE_BERT, "DistilBERT", "ModernBERT"))
# What the page explains.
GROUPS = (DECODERS, ENCODERS)
