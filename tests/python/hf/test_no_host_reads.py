"""Nothing in a forward may wait for a device: no ``.item()``, no branch on a tensor's values.

Tensors on ``meta`` have no values, so any attempt to read one is an error.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import gpt2, prompts
from transformers import DynamicCache, StaticCache

from masked_attn import KVCache
from masked_attn.hf import patch, paths
from masked_attn.hf.call import plan

pytestmark = pytest.mark.integration

IDS, _ = prompts([4, 7, 2])
CACHES = {
    "no-cache": lambda config: None,
    "kv-cache": lambda config: KVCache(),
    "dynamic": lambda config: DynamicCache(config=config),
    "static": lambda config: StaticCache(config=config, max_cache_len=12),
}
PATHS = {"no-cache": "masked_attention", "dynamic": "masked_attention"}
IMPLEMENTATIONS = ["patched", "masked_attn"]


def make_model(how):
    # Stock code looks for pad tokens in the ids; that is told apart below.
    if how == "patched":
        return patch(gpt2(pad_token_id=None)).to("meta")
    return gpt2(pad_token_id=None, implementation="masked_attn").to("meta")


def ones(*shape):
    return torch.ones(*shape, dtype=torch.long, device="meta")


@pytest.mark.parametrize("positions", [False, True], ids=["", "positions"])
@pytest.mark.parametrize("mask", [None, "2d", "4d"])
@pytest.mark.parametrize("cache", CACHES)
def test_prompt_and_step_of_a_patched_model(cache, mask, positions):
    model = make_model("patched")
    past = CACHES[cache](model.config)
    lengths = [(7, 7)] if past is None else [(7, 7), (1, 8)]
    for queries, keys in lengths:
        inputs = {}
        if mask == "2d":
            inputs["attention_mask"] = ones(3, keys)
        if mask == "4d":
            slots = 12 if cache == "static" else keys
            inputs["attention_mask"] = ones(3, 1, queries, slots).bool()
        if positions:
            inputs["position_ids"] = ones(3, queries)
        with torch.no_grad():
            model(ones(3, queries), past_key_values=past, use_cache=past is not None, **inputs)
    expected = PATHS.get(cache, "cached_attention")
    assert set(paths(model).values()) == {expected}


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
def test_weights_of_a_step(fused):
    model = patch(make_model("patched"), fused=fused)
    past = CACHES["static"](model.config)
    for queries in (7, 1):
        with torch.no_grad():
            out = model(ones(3, queries), past_key_values=past, output_attentions=True)
        assert out.attentions[0].shape == (3, 2, queries, 12)
    assert set(paths(model).values()) == {"textbook"}


@pytest.mark.parametrize("cache", ["no-cache", "kv-cache", "dynamic"])
def test_attention_interface(cache):
    model = make_model("masked_attn")
    past = CACHES[cache](model.config)
    with torch.no_grad():
        model(ones(3, 7), attention_mask=ones(3, 7), past_key_values=past, use_cache=bool(past))
        if past is not None:
            model(ones(3, 1), attention_mask=ones(3, 8), past_key_values=past)


def test_pad_tokens_are_not_looked_for_on_a_device():
    model = patch(gpt2()).to("meta")
    with torch.no_grad():
        model(ones(3, 7))


def test_a_read_is_noticed(monkeypatch):
    """The control: a plan that looks at its mask must fail on meta."""
    make = plan._key_mask

    def reads(mask, *args):
        return make(mask | ~mask.any().item(), *args)

    monkeypatch.setattr(plan, "_key_mask", reads)
    with pytest.raises((RuntimeError, NotImplementedError)), torch.no_grad():
        make_model("patched")(ones(3, 7), attention_mask=ones(3, 7))
