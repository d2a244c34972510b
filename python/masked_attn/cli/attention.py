"""Patches a model for a run and tells which attention ran in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import masked_attn
from masked_attn.cli.errors import BadInput, first_line

__all__ = ["maybe_patched", "require_patching", "summarize", "what_ran"]


def require_patching() -> None:
    """Make sure that models can be patched here.

    Raises:
        BadInput: the installed transformers is not supported.
    """
    try:
        from masked_attn.hf import require_family

        require_family()
    except (ImportError, RuntimeError) as error:
        raise BadInput(first_line(error)) from error


@contextmanager
def maybe_patched(model: Any, patched: bool) -> Iterator[Any]:
    """The model as it is, or with masked_attn's attention inside the block."""
    if not patched:
        yield model
        return
    with masked_attn.patched(model):
        yield model


def what_ran(model: Any, patched: bool) -> str:
    """One phrase: which attention the last run used, and in which layers."""
    if not patched:
        return f"stock transformers, {model.config._attn_implementation}"
    facts = masked_attn.report(model)
    prompt = facts.get("prompt")
    if prompt is None:
        return f"masked_attn, {_pass(facts)}"
    return f"masked_attn, prompt {_pass(prompt)}, steps {_pass(facts)}"


def _pass(facts: Mapping[str, Any]) -> str:
    """What ``report`` says of one forward, in a phrase."""
    layers = enumerate(facts.get("layers", ()))
    text = summarize({number: layer["path"] for number, layer in layers})
    return f"{text} without pads" if facts.get("padding_free") else text


def summarize(paths: Mapping[int, str]) -> str:
    """Layers that took the same path, together.

    Example:
        >>> summarize({0: "cached_attention", 1: "cached_attention", 2: "stock"})
        'cached_attention in layers 0-1, stock in layer 2'
    """
    groups: list[tuple[str, int, int]] = []
    for layer, path in sorted(paths.items()):
        if groups and groups[-1][0] == path:
            groups[-1] = (path, groups[-1][1], layer)
        else:
            groups.append((path, layer, layer))
    return ", ".join(_group(*group) for group in groups)


def _group(path: str, first: int, last: int) -> str:
    where = f"layer {first}" if first == last else f"layers {first}-{last}"
    return f"{path} in {where}"
