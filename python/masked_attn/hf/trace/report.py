"""``report``: which attention a patched model ran last, and what it left out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import torch

from ... import _library
from ..call.forward import PatchedForward, patch_of
from ..families.family import module_at
from ..families.finding import backbone_inside
from .last_run import LastRun
from .trace import OPERATORS, STOCK

__all__ = ["Report", "report"]


class Report(dict[str, Any]):
    """A dict that prints as a short table; ``report`` says what is in it."""

    def __str__(self) -> str:
        return "\n".join(f"{name:<10}{text}" for name, text in _lines(self))


def report(model: torch.nn.Module) -> Report:
    """Which attention each layer of a patched model ran last, and why; ``print`` shows it nicely.

    Args:
        model: what was given to ``patch``.

    Returns:
        A dict with

        - ``patched``, ``fused``: how the model is patched;
        - ``batch``, ``queries``, ``keys``: sizes of the last forward;
        - ``padding_free``: whether the blocks ran without the pads that nobody reads; ``pads``: why
          they did not, where the caller could change that;
        - ``layers``: for each layer ``path`` (the operator ``"packed_attention"``,
          ``"cached_attention"`` or ``"masked_attention"``; ``"textbook"``; ``"stock"``), ``why``
          (for ``stock``), and ``cross``, the same for cross attention;
        - ``tiles``: how many tiles of scores one layer ``visited`` and ``skipped`` on the CPU, all
          rows and heads together, and the ``queries`` and ``keys`` of a tile. None where they are
          not known: stock attention, 4-D masks, windows, static caches, other devices;
        - ``cache``: ``type``, filled ``length``, ``capacity`` in slots, ``bytes`` of all layers;
        - ``prompt``: after a forward of one token, a step, the same facts of the last one of
          several tokens.

        What is not known is None.

    Raises:
        TypeError: no model of a known family.
        ValueError: several of them inside.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from masked_attn import patch
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=16))
        >>> model = patch(model.eval())
        >>> ids, mask = torch.tensor([[0, 0, 3], [1, 2, 3]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
        >>> tokens = model.generate(ids, attention_mask=mask, max_new_tokens=3, pad_token_id=0)
        >>> print(report(model))
        patch     fused
        prompt    batch 2, 3 queries, 3 keys, padding-free
        layer 0-1 packed_attention
        tiles     each layer visited 4 of 4 (48 queries x 64 keys)
        step      batch 2, 1 query, 5 keys
        layer 0-1 cached_attention
        tiles     each layer visited 4 of 4 (48 queries x 64 keys)
        cache     KVCache, 5 of 5 slots, 0.0 MB
    """
    forward = patch_of(*backbone_inside(model))
    if forward is None:
        return Report(patched=False)
    facts = Report(patched=True, fused=forward.levels.fused)
    last, prompt = forward.last, forward.prompt
    if last is not None:
        before = None if prompt is None or prompt is last else _facts(prompt, forward)
        facts.update(_facts(last, forward), prompt=before)
    return facts


def _facts(last: LastRun, forward: PatchedForward) -> dict[str, Any]:
    family, config = forward.family, forward.model.config
    layers = enumerate(family.layers_of(forward.model))
    # A layer keeps its number when others are removed.
    modules = [(place, module_at(layer, family.attention)) for place, layer in layers]
    numbers = [getattr(module.config, "number", place) for place, module in modules]
    return {
        "batch": last.batch,
        "queries": last.queries,
        "keys": last.keys,
        "padding_free": last.padding_free,
        "pads": last.pads,
        "layers": [_layer(last, number) for number in numbers],
        "tiles": _tiles(last, config.num_attention_heads),
        "cache": last.cache,
    }


def _layer(last: LastRun, number: int) -> dict[str, Any]:
    if last.why is not None:
        return {"path": STOCK, "why": last.why, "cross": None}
    why = last.trace.reasons.get(number)
    cross = last.trace.cross_paths.get(number)
    facts = _path(last.trace.paths.get(number), why)
    return {**facts, "cross": None if cross is None else _path(cross, why)}


def _path(name: str | None, why: str | None) -> dict[str, Any]:
    return {"path": name, "why": why if name == STOCK else None}


def _tiles(last: LastRun, heads: int) -> dict[str, int] | None:
    ran = set(last.trace.paths.values()) & set(OPERATORS)
    if not last.countable or not ran or last.trace.windows:
        return None
    assert last.batch is not None and last.queries is not None and last.keys is not None
    rows = [b"\1" * last.keys] * last.batch
    if last.key_mask is not None:
        rows = [bytes(row) for row in last.key_mask.tolist()]
    plans = [_tiles_of(row, last.queries, last.causal) for row in rows]
    visited = sum(plan["tiles_visited"] for plan in plans)
    total = visited + sum(plan["tiles_skipped"] for plan in plans)
    if "packed_attention" in ran:  # each row alone, without its pads
        lengths = [row.count(1) for row in rows]
        packed = [_tiles_of(b"\1" * n, n, last.causal) for n in lengths if n]
        visited = sum(plan["tiles_visited"] for plan in packed)
    kernels = _library.load()
    return {
        "visited": heads * visited,
        "skipped": heads * (total - visited),
        "queries": kernels.query_tile,
        "keys": kernels.key_tile,
    }


def _tiles_of(key_mask: bytes, queries: int, causal: bool) -> dict[str, int]:
    """Tiles of one row and head."""
    mask = memoryview(key_mask).cast("B", shape=[1, len(key_mask)])
    plans: list[dict[str, int]] = _library.load().visibility_plan(
        mask, queries=queries, causal=causal
    )
    return plans[0]


def _lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not facts["patched"]:
        return [("patch", "none")]
    lines = [("patch", "fused" if facts["fused"] else "textbook")]
    if "layers" not in facts:
        return [*lines, ("forward", "none yet")]
    if facts["prompt"] is None:
        lines += _pass_lines("forward", facts)
    else:
        lines += _pass_lines("prompt", facts["prompt"]) + _pass_lines("step", facts)
    cache = facts["cache"]
    if cache is not None:
        filled = "" if cache["length"] is None else f"{cache['length']} of "
        size = f"{cache['bytes'] / 1e6:.1f} MB"
        lines.append(("cache", f"{cache['type']}, {filled}{cache['capacity']} slots, {size}"))
    return lines


def _pass_lines(name: str, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    sizes = (
        _size("batch {}", facts["batch"]),
        _size("{} quer{}", facts["queries"], "y", "ies"),
        _size("{} key{}", facts["keys"], "", "s"),
        "padding-free" if facts["padding_free"] else "",
    )
    lines = [(name, ", ".join(size for size in sizes if size))]
    if facts["pads"] is not None:
        lines.append(("pads", f"computed: {facts['pads']}"))
    lines += _layer_lines(facts["layers"])
    tiles = facts["tiles"]
    if tiles is not None:
        total = tiles["visited"] + tiles["skipped"]
        size = f"{tiles['queries']} queries x {tiles['keys']} keys"
        lines.append(("tiles", f"each layer visited {tiles['visited']:,} of {total:,} ({size})"))
    return lines


def _size(text: str, number: int | None, one: str = "", many: str = "") -> str:
    """A number with its word; nothing where it is not known."""
    return "" if number is None else text.format(number, one if number == 1 else many)


def _layer_lines(layers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """One line for neighbours that ran the same."""
    lines = []
    for text, group in groupby(enumerate(layers), key=lambda item: _layer_text(item[1])):
        numbers = [number for number, _ in group]
        first, last = numbers[0], numbers[-1]
        lines.append((f"layer {first}" + (f"-{last} " if last > first else " "), text))
    return lines


def _layer_text(layer: Mapping[str, Any]) -> str:
    text = ": ".join(part for part in (layer["path"], layer["why"]) if part)
    cross = layer["cross"]
    if cross is None:
        return text
    return f"{text}; cross attention {_layer_text({**cross, 'cross': None})}"
