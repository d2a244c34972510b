"""``report``: what it says of each path, how it counts tiles, and the one warning of stock code."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch

pytest.importorskip("transformers")

from hf.features.caches import Elsewhere
from hf.models import generate, gpt2, positions_of, prompts
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import Cache

import masked_attn
from masked_attn import KVCache, report
from masked_attn.hf import patch, unpatch

pytestmark = pytest.mark.integration

LONG = 200
QUERY_TILE, KEY_TILE = masked_attn._C.query_tile, masked_attn._C.key_tile


def forward(model, length=LONG, padding=0, **more):
    ids, mask = prompts([length, length - padding])
    inputs = {"attention_mask": mask, "position_ids": positions_of(mask)}
    with torch.no_grad():
        return model(ids, **{**inputs, **more})


def long_model(**more):
    return gpt2(n_positions=512, **more)


def tiles_with_something_to_see(lengths, total, heads):
    """Counted pair by pair: tiles begin at the row's first real token, as the kernels' do."""
    count = 0
    for length in lengths:
        seen = torch.ones(length, length).tril()
        for i in range(0, length, QUERY_TILE):
            for j in range(0, length, KEY_TILE):
                count += bool(seen[i : i + QUERY_TILE, j : j + KEY_TILE].any())
    every = -(-total // QUERY_TILE) * -(-total // KEY_TILE) * len(lengths)
    return heads * count, heads * (every - count)


@pytest.mark.parametrize("padding", [0, 70, 199])
def test_tiles_of_a_prompt(padding):
    model = patch(long_model())
    forward(model, padding=padding)
    facts = report(model)
    lengths = [LONG, LONG - padding]
    # A row with few real keys is counted as if it were tiled.
    visited, skipped = tiles_with_something_to_see(lengths, LONG, heads=2)
    tiles = {"visited": visited, "skipped": skipped, "queries": QUERY_TILE, "keys": KEY_TILE}
    assert facts["tiles"] == tiles
    assert (facts["batch"], facts["queries"], facts["keys"]) == (2, LONG, LONG)


@pytest.mark.parametrize(
    ("cache", "prompt", "step"),
    [
        (lambda config: KVCache(), "packed_attention", "cached_attention"),
        (
            lambda config: StaticCache(config=config, max_cache_len=24),
            "cached_attention",
            "cached_attention",
        ),
        (lambda config: DynamicCache(config=config), "packed_attention", "masked_attention"),
    ],
    ids=["kv", "static", "dynamic"],
)
def test_prompt_and_step(cache, prompt, step):
    model = patch(gpt2())
    cache = cache(model.config)
    forward(model, length=9, padding=4, past_key_values=cache)
    layer = {"path": prompt, "why": None, "cross": None}
    assert report(model)["layers"] == [layer] * 2
    with torch.no_grad():
        model(torch.ones(2, 1).long(), past_key_values=cache)
    facts = report(model)
    assert facts["prompt"]["layers"] == [layer] * 2
    assert facts["layers"] == [{**layer, "path": step}] * 2
    static = isinstance(cache, StaticCache)
    capacity = {"KVCache": 64, "StaticCache": 24, "DynamicCache": 10}[type(cache).__name__]
    held = 2 * 2 * sum(layer.keys[:, :, :1].numel() for layer in cache.layers)
    assert facts["cache"] == {
        "type": type(cache).__name__,
        "length": None if static else 10,
        "capacity": capacity,
        "bytes": 2 * held * capacity,
    }
    assert (facts["tiles"] is None) == static


def test_textbook_and_unknown_tiles():
    model = patch(gpt2(), fused=False)
    forward(model, length=9)
    facts = report(model)
    assert not facts["fused"]
    assert facts["layers"][0]["path"] == "textbook"
    assert facts["tiles"] is None


def test_generate_leaves_its_prompt_and_its_last_step():
    ids, mask = prompts([5, 9, 3])
    model = patch(gpt2())
    generate(model, ids, mask, 6)
    facts = report(model)
    assert (facts["batch"], facts["queries"], facts["keys"]) == (3, 1, 14)
    # The last token is never put into the cache.
    assert facts["cache"]["length"] == 14
    prompt = facts["prompt"]
    assert (prompt["batch"], prompt["queries"], prompt["keys"]) == (3, 9, 9)
    assert prompt["padding_free"] and not facts["padding_free"]
    assert {layer["path"] for layer in prompt["layers"]} == {"packed_attention"}
    assert str(facts).splitlines() == [
        "patch     fused",
        "prompt    batch 3, 9 queries, 9 keys, padding-free",
        "layer 0-1 packed_attention",
        "tiles     each layer visited 6 of 6 (48 queries x 64 keys)",
        "step      batch 3, 1 query, 14 keys",
        "layer 0-1 cached_attention",
        "tiles     each layer visited 6 of 6 (48 queries x 64 keys)",
        f"cache     KVCache, 14 of {facts['cache']['capacity']} slots, 0.0 MB",
    ]


def test_a_step_leaves_the_last_prompt():
    model = patch(gpt2())
    forward(model, length=9, padding=4, use_cache=False)
    assert report(model)["prompt"] is None and "padding-free" in str(report(model))
    with pytest.warns(UserWarning, match="sliding_window was given"):
        forward(model, length=9, sliding_window=5)
    forward(model, length=1)
    assert report(model)["prompt"]["layers"][0]["why"] == "sliding_window was given"
    assert "stock: sliding_window was given" in str(report(model))


def test_it_is_a_dict_for_machines():
    model = patch(gpt2())
    forward(model, length=9)
    facts = report(model)
    assert json.loads(json.dumps(facts)) == facts


def test_without_patch_or_forward():
    model = gpt2()
    assert report(model) == {"patched": False}
    assert str(report(model)) == "patch     none"
    patch(model)
    assert report(model) == {"patched": True, "fused": True}
    assert "none yet" in str(report(model))
    forward(model, length=9)
    assert "layers" not in report(copy.deepcopy(model))
    assert report(unpatch(model)) == {"patched": False}


def test_stock_code_says_why_and_warns_once():
    model = patch(gpt2())
    ids, _ = prompts([9, 9])
    with pytest.warns(UserWarning, match="stock attention runs: gradients are recorded") as seen:
        model(ids)
    assert len(seen) == 1
    layer = {"path": "stock", "why": "gradients are recorded", "cross": None}
    assert report(model)["layers"] == [layer] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(ids)
    with pytest.warns(UserWarning, match="s_aux was given"):
        forward(model, length=9, s_aux=object())
    assert "stock: s_aux was given" in str(report(model))


def test_a_cache_that_hides_its_memory_is_not_measured():
    """A quantized layer keeps elsewhere what it has quantized."""
    model = patch(gpt2())
    cache = Cache(layers=[Elsewhere(residual_length=4) for _ in range(2)])
    forward(model, length=9, past_key_values=cache)
    assert report(model)["cache"] is None
    with torch.no_grad():
        model(torch.ones(2, 1).long(), past_key_values=cache)
    assert cache.layers[0].keys.shape[2] == 1
    assert report(model)["cache"] is None
    assert "cache" not in str(report(model))


def test_a_layer_that_falls_back_says_why():
    model = patch(gpt2()).requires_grad_(False)
    learned = torch.nn.Parameter(torch.zeros(32))
    model.transformer.h[0].ln_1.register_forward_hook(lambda module, args, out: out + learned)
    ids, mask = prompts([5, 9])
    with pytest.warns(UserWarning, match="gradients are recorded inside the layers"):
        model(ids, attention_mask=mask).logits.sum().backward()
    assert learned.grad is not None
    assert [layer["path"] for layer in report(model)["layers"]] == ["stock", "stock"]
