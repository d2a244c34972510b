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
    "Gemma 2": small("gemma2", "ForCausalLM"),
    "Gemma 3": small("gemma3", "ForCausalLM"),
    "Granite": small("granite", "ForCausalLM"),
    "SmolLM3": small("smollm3", "ForCausalLM"),
    "Phi-3": small("phi3", "ForCausalLM"),
    "StableLM": small("stablelm", "ForCausalLM"),
    "GPT-NeoX": small("gpt_neox", "ForCausalLM"),
    "OPT": small("opt", "ForCausalLM"),
    "Mixtral": small("mixtral", "ForCausalLM"),
    "Qwen3-MoE": small("qwen3_moe", "ForCausalLM"),
    "gpt-oss": small("gpt_oss", "ForCausalLM"),
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
GEMMA2, GEMMA3 = family("Gemma 2"), family("Gemma 3")
BERT, MODERNBERT = family("BERT"), family("ModernBERT")
OPT, STABLELM = family("OPT"), family("StableLM")
# Their layers say at each call how wide their window is, or that they have none.
WIDTH_IS_SAID = (
    *("Qwen2", "Qwen3", "Mistral", "Gemma 2", "Gemma 3", "SmolLM3", "Phi-3"),
    *("Mixtral", "Qwen3-MoE", "gpt-oss"),
)
# Their MLPs are experts.
EXPERTS = ("Mixtral", "Qwen3-MoE", "gpt-oss")
# Their layers say more than torch's own attention knows: a softcap, sinks.
NOT_PLAIN = ("Gemma 2", "gpt-oss")
# All but GPT-2, whose products are of another class.
LINEAR = (
    *("Llama", "Qwen2", "Qwen3", "Mistral", "Gemma 2", "Gemma 3", "Granite", "SmolLM3", "Phi-3"),
    *("StableLM", "GPT-NeoX", "OPT", *EXPERTS),
)
DECODERS = Families("decoders", ("GPT-2", *LINEAR))
# For rows that take seconds: one family of each kind.
SOME_DECODERS = Families("GPT-2, Llama, Gemma 3", ("GPT-2", "Llama", "Gemma 3"))
LIKE_BERT = ("BERT", "RoBERTa", "XLM-RoBERTa", "Electra")
ENCODERS = Families("encoders", (*LIKE_BERT, "DistilBERT", "ModernBERT"))
# What the page explains.
GROUPS = (DECODERS, ENCODERS)
