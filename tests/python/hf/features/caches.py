"""Where keys and values are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from hf.features.families import GPT2, LLAMA, MISTRAL
from hf.features.feature import (
    CACHED,
    IDS,
    MASK,
    MASKED,
    PACKED,
    STOCK,
    Feature,
    generating,
    stock,
)
from hf.models import generate
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, QuantizedLayer, StaticSlidingWindowLayer

from masked_attn import report
from masked_attn.hf import KVCache
from masked_attn.hf.call import plan

SLOTS = 40
FORGETS = "the cache hands over 4 slots from 6 on, after 9"
A_DICT = "attention_mask is a dict"


class Elsewhere(QuantizedLayer):
    """A quantized layer without loss: what is stored is not what attention needs."""

    def _quantize(self, tensor: Tensor, axis: int) -> Tensor:
        return -tensor

    def _dequantize(self, q_tensor: Tensor) -> Tensor:
        return -q_tensor


class Stream(nullcontext[None]):
    """Stands in for a stream of a GPU."""

    def wait_stream(self, stream: Any) -> None:
        """Nothing runs beside the host."""


def offloaded(model: Any, implementation: str = "offloaded") -> Any:
    """Layers that are not needed move away: here from the CPU to the CPU."""
    no_device = mock.patch.object(torch.cuda, "default_stream", return_value=Stream())
    with mock.patch.object(torch, "Stream", Stream), no_device:
        return generate(model, IDS, MASK, cache_implementation=implementation)


def offloaded_static_on_a_device(model: Any) -> Any:
    """Reading what these layers count would wait for a GPU; here we only say so."""
    with mock.patch.object(plan, "on_host", return_value=False):
        return offloaded(model, "offloaded_static")


def given(cache: Callable[[Any], Cache]) -> Callable[[Any], Any]:
    return lambda model: generate(model, IDS, MASK, past_key_values=cache(model.config))


def layered(make: Callable[[], Any]) -> Callable[[Any], Cache]:
    """A cache with one of these for each layer of the model."""
    return lambda config: Cache(layers=[make() for _ in range(config.num_hidden_layers)])


def kv_cache(model: Any) -> Any:
    cache = KVCache(max_length=4) if report(model)["patched"] else DynamicCache()
    return generate(model, IDS, MASK, past_key_values=cache)


def cropped(model: Any) -> Any:
    """Four tokens are taken back, then others follow."""
    # Without the config its layers with windows forget no token, and can be cropped, too.
    cache = KVCache() if report(model)["patched"] else DynamicCache()
    with torch.no_grad():
        model(IDS, past_key_values=cache)
        cache.crop(-4)
        return model(IDS[:, :3], past_key_values=cache).logits


CACHES = {
    "`KVCache`": Feature(kv_cache, note="what `generate` takes by itself"),
    "`DynamicCache`": generating(
        cache_implementation="dynamic",
        paths=(PACKED, MASKED),
        note="the cache's own `update`, then the operator",
    ),
    "`StaticCache`": generating(
        cache_implementation="static",
        paths=(CACHED,),
        note=(
            "written in place. Stock code goes on where `generate` hands over a ready mask for "
            "each kind of layer, and where layers have windows"
        ),
    )
    .but("Qwen2", "Qwen3", "SmolLM3", paths=(STOCK,), why=(A_DICT,))
    .but("Gemma 2", "Gemma 3", "gpt-oss", paths=(STOCK,), why=(A_DICT, FORGETS))
    .but("Mistral", "Phi-3", paths=(MASKED, STOCK), why=(FORGETS,)),
    "caches of half the size": Feature(
        lambda model: generate(model, IDS, MASK).logits[0],
        levels={"cache_dtype": torch.bfloat16},
        note="`cache_dtype`, or a `KVCache` with a dtype",
    ),
    "crop": Feature(cropped, paths=(CACHED,)),
    "`use_cache=False`": generating(use_cache=False, paths=(PACKED,)),
    "quantized caches": Feature(
        given(layered(lambda: Elsewhere(residual_length=4))),
        paths=(PACKED, MASKED),
        note="need a package of their own; `report` does not know their size",
    ),
    "offloaded caches": Feature(offloaded, paths=(PACKED, MASKED), note="need a GPU"),
    # An empty cache is no riddle: only the steps after the prompt are stock.
    "offloaded static caches": stock(
        "the cache counts its tokens on a device",
        offloaded_static_on_a_device,
        only_last=True,
        note="steps after the prompt: tokens are counted on the GPU",
        families=GPT2 + LLAMA,
    ),
    "static caches with a window": stock(
        FORGETS,
        given(layered(lambda: StaticSlidingWindowLayer(SLOTS, 4))),
        only_last=True,
        note="once they have forgotten tokens",
        families=GPT2 + LLAMA + MISTRAL,
    ),
}
