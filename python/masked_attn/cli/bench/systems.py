"""What is compared: a stock model in three ways, and ours, each level on top of those before."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BASELINE",
    "SYSTEMS",
    "System",
    "copy_of",
    "default_systems",
    "make_model",
    "parse_systems",
]


@dataclass(frozen=True)
class System:
    """One row of the table.

    Args:
        name: the word for ``--systems``.
        label: the words in the table.
        stock_attention: the attention of transformers that the model is set to.
        options: what its ``generate`` is told besides.
        switches: keyword arguments of ``masked_attn.patch``, a dtype by its name; ``None`` leaves
            the model unpatched.
    """

    name: str
    label: str
    stock_attention: str = "sdpa"
    options: Mapping[str, Any] = field(default_factory=dict)
    switches: Mapping[str, Any] | None = None


def _level(name: str, label: str, *on: str, cache_dtype: str | None = None) -> System:
    """Ours with the levels ``on`` switched on and all others off."""
    levels = ("padding_free", "fuse_activation", "fast_linear")
    switches = {level: level in on for level in levels}
    return System(name, label, switches={**switches, "cache_dtype": cache_dtype})


_ALL = ("padding_free", "fuse_activation", "fast_linear")

BASELINE = System("stock-sdpa", "stock sdpa")
_LISTED = (
    System("stock-eager", "stock eager", stock_attention="eager"),
    BASELINE,
    System("stock-static", "stock sdpa, static cache", options={"cache_implementation": "static"}),
    _level("attention", "ours: attention only"),
    _level("padding-free", "+ padding-free", *_ALL[:1]),
    _level("activation", "+ fused activation", *_ALL[:2]),
    _level("fast-linear", "+ fast linear", *_ALL),
    _level("cache-bf16", "+ bfloat16 cache", *_ALL, cache_dtype="bfloat16"),
    _level("cache-fp16", "+ float16 cache", *_ALL, cache_dtype="float16"),
)
SYSTEMS: dict[str, System] = {system.name: system for system in _LISTED}


def default_systems(dtype: str) -> tuple[str, ...]:
    """All, but a smaller cache only beside float32: that of a 16-bit model is small already."""
    return tuple(
        name
        for name, system in SYSTEMS.items()
        if dtype == "float32" or not (system.switches or {}).get("cache_dtype")
    )


def parse_systems(text: str) -> tuple[str, ...]:
    """Names between commas, each once, in the order of the table.

    Example:
        >>> parse_systems("fast-linear,stock-sdpa")
        ('stock-sdpa', 'fast-linear')
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in SYSTEMS:
            known = ", ".join(SYSTEMS)
            raise argparse.ArgumentTypeError(f"{word!r} is not one of {known}")
    return tuple(name for name in SYSTEMS if name in words)


def copy_of(model: Any) -> Any:
    """A copy of a model that shares its weights in memory."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def make_model(system: System, stock: Any) -> Any:
    """A copy of the stock model that shares its weights in memory and is this system."""
    import torch  # the words of the command line are read without it

    import masked_attn

    model = copy_of(stock)
    model.set_attn_implementation(system.stock_attention)
    if system.switches is None:
        return model
    cache_dtype = system.switches["cache_dtype"]
    dtype = cache_dtype and getattr(torch, cache_dtype)
    return masked_attn.patch(model, **{**system.switches, "cache_dtype": dtype})
