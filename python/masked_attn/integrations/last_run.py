"""What is kept of the last forward of a patched model, for ``report`` and ``paths``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .plan import AttentionPlan
from .static_cache import self_attention_cache

__all__ = ["LastRun"]


@dataclass
class LastRun:
    """One forward. The masks of its plan stay alive until the next one, its cache does not.

    Attributes:
        plan: what the layers followed and the paths they took; None if all of them ran stock code.
        why: the reason for stock code.
        batch: rows of the input, if there was an input.
        queries: tokens of each row.
        device: type of the input's device.
        cache: facts about the cache that was used, see ``report``.
    """

    plan: AttentionPlan | None = None
    why: str | None = None
    batch: int | None = None
    queries: int | None = None
    device: str | None = None
    cache: dict[str, Any] | None = None

    @classmethod
    def of(cls, arguments: dict[str, Any], plan: AttentionPlan | None, why: str | None) -> LastRun:
        """Before the forward runs: its sizes."""
        ids, embeds = arguments.get("input_ids"), arguments.get("inputs_embeds")
        inputs: Tensor | None = embeds if ids is None else ids
        if inputs is None:
            return cls(plan, why)
        tokens = inputs.shape if ids is not None else inputs.shape[:-1]
        batch, queries = math.prod(tokens[:-1]), math.prod(tokens[-1:])
        return cls(plan, why, batch, queries, inputs.device.type)

    def look_at(self, cache: Any, out: Any) -> None:
        """After the forward: what its cache has become. Layers are alike, so one is enough."""
        cache = getattr(out, "past_key_values", None) or cache
        layers: Any = getattr(self_attention_cache(cache), "layers", ())
        keys = getattr(layers[0], "keys", None) if layers else None
        if keys is None:
            return
        values = layers[0].values
        buffer = getattr(layers[0], "buffer", None)
        static = self.plan is not None and self.plan.static
        capacity = keys.shape[2] if buffer is None else buffer.capacity
        rows = keys.shape[0] * keys.shape[1]
        slot = rows * (keys.shape[3] + values.shape[3]) * keys.element_size()
        self.cache = {
            "type": type(cache).__name__,
            "length": None if static else keys.shape[2],
            "capacity": capacity,
            "bytes": len(layers) * capacity * slot,
        }
