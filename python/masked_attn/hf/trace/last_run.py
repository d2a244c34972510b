"""What is kept of the last forwards of a patched model, for ``report`` and ``paths``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import StaticLayer

from ..caches.static import self_attention_cache
from ..call.cache_argument import cache_of
from ..call.forward_call import ForwardCall
from ..call.plan import Plan
from .trace import Trace

__all__ = ["LastRun"]


@dataclass
class LastRun:
    """One forward. It holds no cache, and of the masks only the key mask.

    Attributes:
        why: the reason for stock code in every layer; None when there was a plan.
        batch: rows of the input, if there was an input.
        queries: tokens of each row.
        keys: keys that a layer saw; None where only a device knows.
        device: type of the input's device.
        trace: what its layers ran.
        padding_free: the layers ran without the pads that nobody reads.
        pads: why they did not, see ``Plan``.
        countable: the tiles can be counted: by key mask and causality alone, on the CPU.
        key_mask: bool ``[batch, keys]`` of a countable forward.
        causal: of a countable forward.
        cache: facts about the cache that was used, see ``report``.
    """

    why: str | None = None
    batch: int | None = None
    queries: int | None = None
    keys: int | None = None
    device: str | None = None
    trace: Trace = field(default_factory=Trace)
    padding_free: bool = False
    pads: str | None = None
    countable: bool = False
    key_mask: Tensor | None = None
    causal: bool = False
    cache: dict[str, Any] | None = None

    @classmethod
    def left_to_stock(cls, call: ForwardCall, why: str, pads: str | None) -> LastRun:
        """A forward without a plan."""
        last = cls(why=why, pads=pads)
        last._measure(call)
        return last

    @classmethod
    def planned(cls, call: ForwardCall, plan: Plan) -> LastRun:
        """A forward with a plan, before it runs: the layers fill in their paths."""
        seen = plan.seen
        last = cls(
            keys=None if plan.static else seen.keys,
            trace=plan.trace,
            causal=seen.causal,
            padding_free=plan.packing is not None,
            pads=plan.pads,
        )
        last._measure(call)
        plain = seen.attn_mask is None and not (plan.textbook or plan.static)
        # In a compiled graph a mask that is kept would be one more result.
        last.countable = plain and last.device == "cpu" and not torch.compiler.is_compiling()
        if last.countable and seen.key_mask is not None:
            is_callers = call.mask.dtype == torch.bool
            last.key_mask = seen.key_mask.clone() if is_callers else seen.key_mask
        return last

    def _measure(self, call: ForwardCall) -> None:
        if call.inputs is not None:
            self.batch, self.queries = call.batch, call.queries
            self.device = call.inputs.device.type

    def look_at(self, cache: Any, out: Any) -> None:
        """After the forward: what its cache has become. Layers are alike, so one is enough."""
        cache = cache_of(out) or cache
        layers: Any = getattr(self_attention_cache(cache), "layers", ())
        keys = getattr(layers[0], "keys", None) if layers else None
        if keys is None:
            return
        static = isinstance(layers[0], StaticLayer)
        # A quantized layer keeps in `keys` only what it has not quantized yet, perhaps nothing.
        if not static and keys.shape[2:3] != (layers[0].get_seq_length(),):
            return
        values = layers[0].values
        buffer = getattr(layers[0], "buffer", None)
        capacity = keys.shape[2] if buffer is None else buffer.capacity
        rows = keys.shape[0] * keys.shape[1]
        slot = rows * (keys.shape[3] + values.shape[3]) * keys.element_size()
        self.cache = {
            "type": type(cache).__name__,
            "length": None if static else keys.shape[2],
            "capacity": capacity,
            "bytes": len(layers) * capacity * slot,
        }
