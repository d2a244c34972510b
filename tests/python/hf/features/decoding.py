"""Ways of calling ``generate``."""

from __future__ import annotations

from typing import Any

import torch
from hf.features.families import SOME_DECODERS
from hf.features.feature import CACHED, IDS, MASK, MASKED, ONE, PACKED, STOCK, Feature, generating
from hf.models import generate, gpt2, prompts
from transformers import ContinuousBatchingConfig, DynamicCache, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from masked_attn import report
from masked_attn.hf import KVCache, patch


class Heard(BaseStreamer):
    """A streamer that remembers what it was told."""

    def __init__(self) -> None:
        self.tokens: list[torch.Tensor] = []

    def put(self, value: torch.Tensor) -> None:
        self.tokens.append(value.reshape(-1))

    def end(self) -> None:
        self.tokens.append(torch.tensor([-1]))


def streamed(model: Any) -> Any:
    heard = Heard()
    result = generate(model, ONE, None, streamer=heard)
    return [result, torch.cat(heard.tokens)]


def assisted(model: Any) -> Any:
    # Of another family for most: an assistant needs the same vocabulary only.
    assistant = gpt2(layers=1)
    if report(model)["patched"]:
        patch(assistant)
    return generate(model, ONE, None, assistant_model=assistant)


def continued(model: Any) -> Any:
    """A second prompt behind the answer to the first, whose keys and values are in the cache."""
    patched = report(model)["patched"]
    cache = KVCache() if patched else DynamicCache(config=model.config)
    first = generate(model, IDS, MASK, 6, past_key_values=cache).sequences
    grown = torch.cat([first, prompts([4, 4, 4], seed=9)[0]], dim=1)
    mask = torch.nn.functional.pad(MASK, (0, grown.shape[1] - MASK.shape[1]), value=1)
    return generate(model, grown, mask, 6, past_key_values=cache)


SETTINGS = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=7)
LITTLE_MEMORY = ContinuousBatchingConfig(num_blocks=4, max_batch_tokens=32)
SAMPLED = {"do_sample": True, "top_k": 20, "temperature": 1.3}


def paged(model: Any) -> Any:
    results = model.generate_batch(
        [IDS[1].tolist()],
        generation_config=SETTINGS,
        continuous_batching_config=LITTLE_MEMORY,
        progress_bar=False,
    )
    return [torch.tensor(result.generated_tokens) for result in results.values()]


DECODING = {
    "greedy search": generating(),
    "sampling": generating(**SAMPLED),
    "`num_return_sequences`": generating(num_return_sequences=3, **SAMPLED),
    "beam search": generating(num_beams=3),
    "beam sampling": generating(num_beams=3, do_sample=True),
    "assisted decoding": Feature(
        assisted,
        paths=(CACHED,),
        note="one prompt at a time, as in transformers; the assistant may be patched, too",
    ),
    # 5.4.0 cannot do without an end of sequence.
    "prompt lookup decoding": generating(
        ONE,
        None,
        prompt_lookup_num_tokens=3,
        eos_token_id=7,
        paths=(CACHED,),
        note="one prompt at a time",
    ),
    "classifier-free guidance": generating(
        guidance_scale=1.5,
        paths=(PACKED, CACHED, MASKED),
        note="its second forward has a `DynamicCache`",
    ),
    "streamers": Feature(streamed, paths=(CACHED,), note="one prompt at a time"),
    "`prefill_chunk_size`": generating(prefill_chunk_size=4, note="a prompt in chunks"),
    "continuing from a cache": Feature(continued),
    # How attention is told to be paged depends on the version.
    "`generate_batch`": Feature(
        paged,
        (STOCK,),
        why=(
            *("attention implementation paged|sdpa", "cache was given"),
            "the cache is a PagedAttentionCache",
        ),
        tolerance=0.0,
        note="its attention is paged",
        families=SOME_DECODERS,
    ),
}
