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


def small(name: str, head: str = "ForCausalLM") -> Callable[..., Any]:
    """Make the model that the tests of families have under this name."""

    def build(**more: Any) -> Any:
        return FAMILIES[name].build(head, **{"implementation": "sdpa", **more})

    return build


# Make a small model with a head of language. Keywords: ``implementation``, ``head_dim``, and others
# of its config.
SMALL: dict[str, Callable[..., Any]] = {
    "GPT-2": small_gpt2,
    "Llama": small("llama"),
    "Qwen2": small("qwen2"),
    "Qwen3": small("qwen3"),
    "Mistral": small("mistral"),
    "Gemma 3": small("gemma3"),
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


GPT2 = Families("GPT-2", ("GPT-2",))
DECODERS = Families("decoders", ("GPT-2", "Llama", "Qwen2", "Qwen3", "Mistral", "Gemma 3"))
# What the page explains.
GROUPS = (DECODERS,)
