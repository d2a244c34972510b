"""The cache of GPT-2 has two names: each is taken as the installed stock code takes it."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close, assert_ran
from hf.models import CACHE, gpt2, prompts
from transformers import DynamicCache, EncoderDecoderCache, GPT2Model
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from masked_attn import KVCache, patch
from masked_attn.hf.attention import interface as attention_interface

pytestmark = pytest.mark.integration

OLD = "past_key_values"
renamed = pytest.mark.skipif(CACHE == OLD, reason="this transformers knows the old name only")

IDS, MASK = prompts([9, 9, 9])
PROMPT, NEXT = IDS[:, :6], IDS[:, 6:]


@pytest.fixture
def models():
    stock = gpt2(model_class=GPT2Model)
    ours = patch(copy.deepcopy(stock))
    return ours, stock


def filled(model, cache):
    with torch.no_grad():
        model(PROMPT, cache)  # by position
    return cache


def run(model, *args, **kwargs):
    with torch.no_grad():
        return model(*args, **kwargs).last_hidden_state


@pytest.mark.parametrize("kind", [KVCache, DynamicCache])
def test_52_by_position_and_by_the_name_of_the_release(models, kind):
    ours, stock = models
    expected = run(stock, IDS)[:, 6:]
    assert_close(run(ours, NEXT, filled(ours, kind())), expected)
    cache = filled(ours, kind())
    assert_close(run(ours, NEXT, **{CACHE: cache}), expected)
    assert_ran(ours, "cached_attention" if kind is KVCache else "masked_attention")
    assert cache.get_seq_length() == 9


def test_52_what_is_returned_holds_the_cache_under_the_name_of_the_release(models):
    ours, stock = models
    with torch.no_grad():
        for model in (ours, stock):
            cache = getattr(model(IDS, use_cache=True), CACHE)
            assert isinstance(cache, DynamicCache) and cache.get_seq_length() == 9


def test_52_the_name_of_the_release_draws_no_warning(models):
    ours, _ = models
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(ours, NEXT, **{CACHE: filled(ours, KVCache())})


@renamed
def test_52_the_old_name_is_taken_with_a_warning(models):
    ours, stock = models
    for model, cache in ((stock, DynamicCache()), (ours, KVCache())):
        with pytest.warns(FutureWarning, match=r"`past_key_values` is deprecated.*Use `cache`"):
            out = run(model, NEXT, **{OLD: filled(model, cache)})
        assert_close(out, run(stock, IDS)[:, 6:])


@renamed
def test_52_of_both_names_the_new_one_counts(models):
    ours, stock = models
    for model, kind in ((stock, DynamicCache), (ours, KVCache)):
        cache, other = filled(model, kind()), kind()
        with pytest.warns(FutureWarning, match="Both `past_key_values` and `cache` are set"):
            out = run(model, NEXT, **{OLD: other, CACHE: cache})
        assert_close(out, run(stock, IDS)[:, 6:])
        assert (cache.get_seq_length(), other.get_seq_length()) == (9, 0)


@pytest.mark.parametrize("name", [CACHE, OLD])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_52_by_position_and_by_name_is_an_error(models, name):
    for model in models:
        with pytest.raises(TypeError, match=f"multiple values for argument '{CACHE}'"):
            run(model, NEXT, DynamicCache(), **{name: DynamicCache()})


@pytest.mark.skipif(CACHE != OLD, reason="this transformers knows the new name")
def test_52_a_name_that_the_release_does_not_know_is_left_to_stock(models):
    ours, stock = models
    assert_close(run(ours, IDS, cache=DynamicCache()), run(stock, IDS, cache=DynamicCache()))
    assert_ran(ours, "stock")


@pytest.mark.parametrize("name", [CACHE, OLD])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_52_layers_take_the_names_of_the_release(cross, name):
    stock = gpt2(model_class=GPT2Model, add_cross_attention=True)
    states = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(1))
    attention, more = "attn", {}
    if cross:
        attention, more = "crossattention", {"encoder_hidden_states": states}
    results = []
    for model in (patch(copy.deepcopy(stock)), stock):
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        layer = getattr(model.h[0], attention)
        with torch.no_grad():
            results.append(layer(states, **{name: cache}, **more)[0])
        used = cache.cross_attention_cache if cross else cache.self_attention_cache
        assert used.get_seq_length() == 3
    assert_close(*results)


def test_52_the_attention_function_refuses_no_cache_but_a_paged_one():
    """Some layers of 5.24 hand their ordinary cache on; a paged one must be read."""
    states = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(1))
    inputs = (torch.nn.Identity(), *states, None)
    expected = sdpa_attention_forward(*inputs, is_causal=True)[0]
    out = attention_interface.attention_forward(*inputs, is_causal=True, cache=DynamicCache())[0]
    assert_close(out, expected)
    with pytest.raises(ValueError, match="does not support cache"):
        attention_interface.attention_forward(*inputs, is_causal=True, cache=object())


def test_52_generate_takes_a_cache_by_the_name_of_the_release():
    stock = gpt2()
    ours = patch(copy.deepcopy(stock))
    expected = stock.generate(IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False)
    cache = KVCache()
    tokens = ours.generate(
        IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False, **{CACHE: cache}
    )
    assert tokens.equal(expected)
    assert cache.get_seq_length() == 12
