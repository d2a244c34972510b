"""Deliberate bugs: the comparison with stock must fail for each of them."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("transformers")

from hf.models import generate, generate_alone, gpt2, prompts
from hf.tokens import assert_same_as_alone, assert_same_tokens
from transformers import AttentionMaskInterface

from masked_attn.functional import masked_attention
from masked_attn.hf import patch
from masked_attn.hf.attention import planned as layers
from masked_attn.hf.call import plan

pytestmark = pytest.mark.integration

IDS, MASK = prompts([5, 9, 3])


@pytest.fixture
def must_fail():
    """Without the bug both comparisons hold; with it both must fail."""
    stock = gpt2()
    expected, alone = generate(stock, IDS, MASK), generate_alone(stock, IDS, MASK)

    def check(model):
        result = generate(model, IDS, MASK)
        with pytest.raises(AssertionError, match="differ at"):
            assert_same_tokens(result, expected)
        with pytest.raises(AssertionError, match="differ at"):
            assert_same_as_alone(result, alone)

    intact = generate(patch(gpt2()), IDS, MASK)
    assert_same_tokens(intact, expected)
    assert_same_as_alone(intact, alone)
    return check


def test_mask_dropped(must_fail, monkeypatch):
    make = plan._visibility
    monkeypatch.setattr(
        plan, "_visibility", lambda *a: dataclasses.replace(make(*a), key_mask=None)
    )
    must_fail(patch(gpt2()))


def test_cache_written_one_slot_late(must_fail, monkeypatch):
    def late(query, new_key, new_value, key_cache, value_cache, *, position, **more):
        end = position + query.shape[2]
        for cache, new in ((key_cache, new_key), (value_cache, new_value)):
            room = cache.shape[2] - position - 1
            cache[:, :, position + 1 : end + 1] = new[:, :, :room]
        keys, values = key_cache[:, :, :end], value_cache[:, :, :end]
        return masked_attention(query, keys, values, causal=True, **more)

    monkeypatch.setattr(layers, "cached_attention", late)
    must_fail(patch(gpt2()))


def test_positions_that_ignore_the_mask(must_fail):
    model = patch(gpt2(), positions_from_mask=False)
    model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "position_ids": None}), with_kwargs=True
    )
    must_fail(model)


@pytest.mark.parametrize("name", [pytest.param("masked_attn", id="item-51-mask-function-missing")])
def test_mask_function_not_registered(must_fail, monkeypatch, name):
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, name)
    must_fail(gpt2(implementation=name))
