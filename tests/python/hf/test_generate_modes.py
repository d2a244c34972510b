"""Every way of calling ``generate`` on a patched model equals the same call on the stock model."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import PAD, generate, gpt2, prompts
from hf.tokens import assert_same_tokens
from transformers import DynamicCache, StaticCache

from masked_attn.hf import KVCache, patch, paths

pytestmark = pytest.mark.integration

LENGTHS = [5, 9, 3]
MODES = {
    "greedy": {},
    "item-53-beams": {"num_beams": 3},
    "beams-returned": {"num_beams": 4, "num_return_sequences": 2},
    "beams-sampled": {"num_beams": 3, "do_sample": True},
    "sampling": {"do_sample": True, "top_k": 20, "temperature": 1.3},
    "several-samples": {"do_sample": True, "num_return_sequences": 3},
    "no-cache": {"use_cache": False},
    "static-cache": {"cache_implementation": "static"},
    "dynamic-cache": {"cache_implementation": "dynamic"},
    "chunked-prefill": {"prefill_chunk_size": 4},
    "repetition-penalty": {"repetition_penalty": 1.5},
    "min-length-and-eos": {"eos_token_id": 7, "min_new_tokens": 3},
}
PATHS = {
    "no-cache": "packed_attention",
    "dynamic-cache": "masked_attention",
}


def pair(**settings):
    return gpt2(**settings), patch(gpt2(**settings))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("mode", MODES)
def test_mode_equals_stock(mode, implementation):
    ids, mask = prompts(LENGTHS)
    stock, model = pair(implementation=implementation)
    torch.manual_seed(3)
    expected = generate(stock, ids, mask, 12, **MODES[mode])
    torch.manual_seed(3)
    result = generate(model, ids, mask, 12, **MODES[mode])
    if "num_beams" in MODES[mode]:
        assert torch.equal(result.sequences, expected.sequences)
    else:
        assert_same_tokens(result, expected)
    assert set(paths(model).values()) == {PATHS.get(mode, "cached_attention")}


def holes():
    ids, mask = prompts(LENGTHS)
    mask[1, 3:5] = 0
    mask[0, 6] = 0
    return ids, mask


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(lambda: prompts(LENGTHS, side="right"), id="right-padding"),
        pytest.param(holes, id="holes"),
        pytest.param(lambda: prompts([6, 6]), id="no-padding"),
        pytest.param(lambda: (prompts([4, 4])[0], None), id="no-mask"),
        pytest.param(lambda: prompts([1, 1]), id="one-token"),
    ],
)
def test_batch_equals_stock(batch, cache):
    ids, mask = batch()
    stock, model = pair()
    expected = generate(stock, ids, mask, 10, cache_implementation=cache)
    assert_same_tokens(generate(model, ids, mask, 10, cache_implementation=cache), expected)


GIVEN = {
    "KVCache": lambda config: KVCache(),
    "KVCache-small": lambda config: KVCache(max_length=2),
    "DynamicCache": lambda config: DynamicCache(config=config),
    "StaticCache": lambda config: StaticCache(config=config, max_cache_len=40),
}


@pytest.mark.parametrize("given", GIVEN)
def test_continue_from_a_given_cache(given):
    ids, mask = prompts(LENGTHS)
    stock, model = pair()
    more_ids, _ = prompts([4, 4, 4], seed=9)

    def two_rounds(m, cache):
        first = generate(m, ids, mask, 6, past_key_values=cache).sequences
        grown = torch.cat([first, more_ids], dim=1)
        grown_mask = torch.cat([mask, mask.new_ones(3, grown.shape[1] - mask.shape[1])], dim=1)
        return generate(m, grown, grown_mask, 6, past_key_values=cache)

    expected = two_rounds(stock, DynamicCache(config=stock.config))
    cache = GIVEN[given](model.config)
    result = two_rounds(model, cache)
    assert_same_tokens(result, expected)
    assert result.past_key_values is cache
    path = "masked_attention" if given == "DynamicCache" else "cached_attention"
    assert set(paths(model).values()) == {path}


def test_generate_gets_a_cache_of_the_right_size():
    ids, mask = prompts(LENGTHS)
    cache = generate(patch(gpt2()), ids, mask, 12).past_key_values
    assert isinstance(cache, KVCache)
    assert cache.get_seq_length() == 9 + 11
    assert cache.layer(0).buffer.capacity == 9 + 11


@pytest.mark.parametrize("assistant", [pytest.param(1, id="item-53-assisted-decoding")])
def test_assisted_decoding_equals_stock(assistant):
    ids, _ = prompts([7])
    stock, model = pair(layers=2)
    expected = generate(stock, ids, None, 14)
    result = generate(model, ids, None, 14, assistant_model=patch(gpt2(assistant)))
    assert_same_tokens(result, expected)
    assert isinstance(result.past_key_values, KVCache)


def test_prompt_lookup_equals_stock():
    ids, _ = prompts([7])
    stock, model = pair()
    eos = {"eos_token_id": 7}  # 5.4.0 cannot do without
    expected = generate(stock, ids, None, 14, **eos)
    ours = generate(model, ids, None, 14, prompt_lookup_num_tokens=3, **eos)
    assert_same_tokens(ours, expected)


def test_inputs_embeds_equal_stock():
    ids, mask = prompts(LENGTHS)
    stock, model = pair()
    embeds = stock.transformer.wte(ids).detach()
    settings = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    with torch.no_grad():
        expected = stock.generate(inputs_embeds=embeds, **settings)
        assert torch.equal(model.generate(inputs_embeds=embeds, **settings), expected)


def test_inference_mode():
    ids, mask = prompts(LENGTHS)
    stock, model = pair()
    settings = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    with torch.inference_mode():
        result = model.generate(ids, **settings, pad_token_id=PAD)
    assert torch.equal(result, stock.generate(ids, **settings, pad_token_id=PAD))
