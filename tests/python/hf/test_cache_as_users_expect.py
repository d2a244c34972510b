"""A KVCache is looped over, made of another, reset and handed on like a DynamicCache."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.cache_pairs import append, assert_same, both, old_reset, states
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from masked_attn.hf import KVCache

pytestmark = pytest.mark.integration


def test_a_loop_over_the_cache_gives_keys_values_and_no_window():
    ours, stock = both()
    assert isinstance(ours, DynamicCache)
    for (keys, values, window), layer in zip(ours, stock.layers, strict=True):
        assert torch.equal(keys, layer.keys)
        assert torch.equal(values, layer.values)
        assert window is None
    assert list(KVCache()) == list(DynamicCache()) == []
    assert list(KVCache(num_layers=2)) == [(None, None, None)] * 2
    assert repr(ours) == "KVCache(layers=[KVLayer, KVLayer])"


@pytest.mark.parametrize(("new", "old"), [(DynamicCache, 0), (KVCache, 0), (KVCache, 1)])
def test_a_cache_made_of_another_shares_nothing_with_it(new, old):
    past = both()[old]
    expected = [tuple(part.clone() for part in layer[:2]) for layer in past]
    twin = new(past)
    assert type(twin) is new
    past.crop(-3)
    append((past, new(past)), tokens=2)
    for (keys, values, _), (wanted_keys, wanted_values) in zip(twin, expected, strict=True):
        assert torch.equal(keys, wanted_keys)
        assert torch.equal(values, wanted_values)


def test_a_cache_made_of_tuples():
    """What ``DataParallel`` gathers is a ``map`` of tuples, handed over by position."""
    _, stock = both()
    ours = KVCache(map(tuple, stock), max_length=32, dtype=torch.bfloat16)
    assert ours.layer(1).buffer.capacity == 32
    assert torch.equal(ours.layers[1].keys, stock.layers[1].keys.bfloat16())
    assert_same(KVCache([layer[:2] for layer in stock]), stock)
    assert_same(KVCache([]), DynamicCache([]))
    ours.update(*states(tokens=1), 2)  # a DynamicCache has no more layers than it was given
    assert len(ours) == 3
    empty = KVCache([(None, None, None), tuple(stock)[1]])
    assert not empty.layers[0].is_initialized
    assert torch.equal(empty.layers[1].keys, stock.layers[1].keys)


def test_a_cache_made_where_gradients_are_recorded_copies_and_keeps_the_graph():
    key, value = (part.requires_grad_() for part in states())
    ours = KVCache([(key, value)])
    with torch.no_grad():
        key.zero_()
    assert torch.equal(ours.layers[0].keys, states()[0])
    ours.layers[0].keys.sum().backward()
    assert torch.equal(key.grad, torch.ones_like(key))


@pytest.mark.parametrize("past", [64, True, torch.ones(2), "cache"], ids=str)
def test_what_is_no_past_is_refused_by_name(past):
    with pytest.raises(TypeError, match=f"past .* got {type(past).__name__}.*max_length="):
        KVCache(past)


def test_layers_that_have_forgotten_tokens_are_refused():
    window = DynamicCache()
    window.layers = [DynamicSlidingWindowLayer(sliding_window=4)]
    window.layer_class_to_replicate = None
    window.update(*states(tokens=3), 0)  # a layer with a window of 4 keeps 3
    assert torch.equal(KVCache(window).layers[0].keys, states(tokens=3)[0])
    window.update(*states(tokens=1), 0)
    for past in (window, list(window)):
        with pytest.raises(ValueError, match="layer 0 .* forgotten"):
            KVCache(past)


def test_reset_forgets_as_todays_dynamic_cache():
    """A DynamicLayer of transformers 5.16.1 keeps its length and zeroes its tensors."""
    ours, _ = both()
    address = ours.layers[0].keys.data_ptr()
    ours.reset()
    assert list(ours) == [(None, None, None)] * 2
    assert [layer.is_initialized for layer in ours.layers] == [False, False]
    assert not ours.is_initialized
    ours.reorder_cache(torch.tensor([4]))
    ours.crop(-1)
    if not old_reset():
        assert list(DynamicCache(ours)) == [(None, None, None)] * 2
    append((ours, DynamicCache()), tokens=2)
    assert ours.layers[0].keys.data_ptr() == address
    for layer in ours.layers:  # what users do themselves
        layer.keys = layer.values = None
        layer.is_initialized = False
    append((ours, DynamicCache()), batch=5)


def test_an_encoder_decoder_cache_of_it_can_be_cropped():
    ours, stock = (EncoderDecoderCache(cache, DynamicCache()) for cache in both())
    for pair in (ours, stock):
        pair.crop(-2)
        pair.batch_select_indices(torch.tensor([1]))
    assert_same(ours.self_attention_cache, stock.self_attention_cache)
