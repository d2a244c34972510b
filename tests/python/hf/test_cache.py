"""KVCache does what DynamicCache does, in place."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import gpt2, positions_of, prompts
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from masked_attn.hf import KVCache, patch

pytestmark = pytest.mark.integration


def states(batch=2, tokens=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, 2, tokens, 4, generator=generator) for _ in range(2))


def both(tokens=(3, 2), layers=2, **settings):
    """A KVCache and a DynamicCache with the same contents."""
    ours, stock = KVCache(**settings), DynamicCache()
    for seed, count in enumerate(tokens):
        for layer in range(layers):
            for cache in (ours, stock):
                cache.update(*states(tokens=count, seed=10 * seed + layer), layer)
    return ours, stock


def assert_same(ours, stock):
    assert len(ours.layers) == len(stock.layers)
    for index, (a, b) in enumerate(zip(ours.layers, stock.layers, strict=True)):
        assert torch.equal(a.keys, b.keys)
        assert torch.equal(a.values, b.values)
        assert ours.get_seq_length(index) == stock.get_seq_length(index)
        assert ours.get_mask_sizes(5, index) == stock.get_mask_sizes(5, index)


def test_update_equals_dynamic_cache():
    ours, stock = both(tokens=(3, 1, 70, 1))
    assert isinstance(ours, Cache)
    assert isinstance(ours.layers[0], DynamicLayer)
    assert_same(ours, stock)
    assert not ours.is_compileable
    assert ours.is_sliding == [False, False]
    length = getattr(ours, "get_max_length", None) or ours.get_max_cache_shape
    assert length() == -1


def test_writes_in_place_and_doubles():
    cache = KVCache(max_length=8)
    addresses, capacities = set(), []
    for step in range(12):
        keys, _ = cache.update(*states(tokens=1, seed=step), 0)
        addresses.add(keys.data_ptr())
        capacities.append(cache.layer(0).buffer.capacity)
    assert capacities == [8] * 8 + [16] * 4
    assert len(addresses) == 2


def test_crop_equals_dynamic_cache():
    for number in (-2, 0, -5):
        ours, stock = both()
        for cache in (ours, stock):
            cache.crop(number)
        assert_same(ours, stock) if stock.get_seq_length() else None
        assert ours.get_seq_length() == stock.get_seq_length()
        buffer = ours.layer(0).buffer.capacity
        for cache in (ours, stock):
            cache.update(*states(tokens=2, seed=7), 0)
            cache.update(*states(tokens=2, seed=8), 1)
        assert_same(ours, stock)
        assert ours.layer(0).buffer.capacity == buffer


def test_positive_crop_means_what_it_means_in_dynamic_cache():
    ours, stock = both()
    try:
        stock.crop(2)
    except ValueError:
        with pytest.raises(ValueError, match="positive"):
            ours.crop(2)
    else:
        ours.crop(2)
        assert_same(ours, stock)


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("reorder_cache", torch.tensor([1, 1])),
        ("reorder_cache", torch.tensor([1, 0])),
        ("batch_repeat_interleave", 3),
        ("batch_select_indices", torch.tensor([1])),
        ("batch_select_indices", torch.tensor([True, False])),
        ("batch_select_indices", torch.tensor([0, 1, 1, 0])),
    ],
)
def test_rows_move_as_in_dynamic_cache(method, argument):
    ours, stock = both()
    capacity = ours.layer(0).buffer.capacity
    for _ in range(2 if method == "reorder_cache" else 1):
        for cache in (ours, stock):
            getattr(cache, method)(argument)
        assert_same(ours, stock)
    assert ours.layer(0).buffer.capacity == capacity
    batch = ours.layers[0].keys.shape[0]
    for cache in (ours, stock):
        for layer in range(2):
            cache.update(*states(batch=batch, tokens=1, seed=4), layer)
    assert_same(ours, stock)


def test_reordering_uses_two_buffers_only():
    ours, _ = both()
    addresses = set()
    for _ in range(6):
        ours.reorder_cache(torch.tensor([1, 0]))
        addresses.add(ours.layers[0].keys.data_ptr())
    assert len(addresses) == 2


def test_reset_keeps_the_memory_and_takes_another_batch():
    ours, _ = both()
    address = ours.layers[0].keys.data_ptr()
    ours.reset()
    assert ours.get_seq_length() == 0
    keys, _ = ours.update(*states(tokens=2), 0)
    assert keys.data_ptr() == address
    assert torch.equal(keys, states(tokens=2)[0])
    ours.reset()
    assert ours.update(*states(batch=5), 0)[0].shape == (5, 2, 3, 4)


def test_before_the_first_token():
    cache = KVCache()
    assert cache.get_seq_length() == 0
    assert cache.get_mask_sizes(4, 0) == (4, 0)
    cache = KVCache(num_layers=2)
    for call in (cache.reset, lambda: cache.crop(-1)):
        call()
    cache.reorder_cache(torch.tensor([0]))
    cache.batch_repeat_interleave(2)
    assert cache.get_seq_length() == 0


def test_early_initialization():
    cache = KVCache(max_length=16, num_layers=2)
    cache.early_initialization(2, 2, 4, torch.float32, torch.device("cpu"))
    assert all(layer.is_initialized for layer in cache.layers)
    assert cache.layer(1).buffer.capacity == 16
    assert torch.equal(cache.update(*states(), 1)[0], states()[0])


def test_wrong_batch_is_an_error_that_shows_the_shapes():
    ours, _ = both()
    with pytest.raises(ValueError, match=r"\[2, 2, 64, 4\].*\[3, 2, 1, 4\]"):
        ours.update(*states(batch=3, tokens=1), 0)


def test_storage_dtype():
    cache = KVCache(dtype=torch.bfloat16)
    keys, _ = cache.update(*states(), 0)
    assert keys.dtype == torch.float32
    assert cache.layers[0].keys.dtype == torch.bfloat16
    assert torch.equal(keys, states()[0].bfloat16().float())

    ids, mask = prompts([4, 7])
    with torch.no_grad():
        inputs = {"attention_mask": mask, "position_ids": positions_of(mask)}
        expected = gpt2()(ids, **inputs).logits
        for model in (gpt2(), patch(gpt2())):
            past = KVCache(dtype=torch.bfloat16)
            ours = model(ids, **inputs, past_key_values=past).logits
            real = mask.bool()
            torch.testing.assert_close(ours[real], expected[real], atol=0.1, rtol=0.1)


def test_gradients_flow_through_the_cache():
    key, value = (x.requires_grad_() for x in states())
    cache = KVCache()
    cache.update(key, value, 0)
    keys, _ = cache.update(*states(tokens=1, seed=1), 0)
    keys.sum().backward()
    assert torch.equal(key.grad, torch.ones_like(key))
    with torch.no_grad():
        before = cache.layers[0].keys
        kept = before.clone()
        keys, _ = cache.update(*states(tokens=1, seed=2), 0)
    assert not keys.requires_grad
    assert torch.equal(before, kept)


def test_inference_tensors_are_left_behind():
    cache = KVCache()
    with torch.inference_mode():
        cache.update(*states(), 0)
        cache.reorder_cache(torch.tensor([1, 0]))
    cache.update(*states(tokens=1), 0)
    cache.reorder_cache(torch.tensor([1, 0]))
    expected = torch.cat([states()[0][[1, 0]], states(tokens=1)[0]], dim=2)[[1, 0]]
    assert torch.equal(cache.layers[0].keys, expected)


def test_copies_are_independent():
    ours, stock = both()
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_same(twin, stock)
        twin.update(*states(tokens=1), 0)
        assert_same(ours, stock)


def test_offload_and_prefetch():
    ours, stock = both()
    ours.layers[0].offload()
    ours.layers[0].prefetch()
    assert_same(ours, stock)


def test_reserve_and_advance_are_an_update():
    ours, stock = both()
    key, value = states(tokens=2, seed=5)
    key_cache, value_cache, position = ours.reserve(key, value, 1)
    assert position == 5
    key_cache[:, :, 5:7], value_cache[:, :, 5:7] = key, value
    ours.advance(2, 1)
    stock.update(key, value, 1)
    assert_same(ours, stock)
    with pytest.raises(ValueError, match="capacity"):
        ours.advance(1000, 1)


def test_every_public_method_of_the_base_layer_is_there():
    own = {name for name, _ in inspect.getmembers(type(KVCache().layer(0)), inspect.isfunction)}
    base = {name for name, _ in inspect.getmembers(DynamicLayer, inspect.isfunction)}
    assert base <= own


@pytest.mark.parametrize(
    ("model_dtype", "cache_dtype"),
    [
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float16),
        (torch.float64, torch.bfloat16),
        (torch.float32, torch.bfloat16),
    ],
    ids=str,
)
def test_a_patched_model_takes_a_cache_of_any_dtype(model_dtype, cache_dtype):
    """What the operator can't store as it is goes through ``update``, as with a stock cache."""
    ids, mask = prompts([3, 7])
    model = patch(gpt2().to(model_dtype))
    cache = KVCache(dtype=cache_dtype)
    with torch.no_grad():
        first = model(input_ids=ids, attention_mask=mask, past_key_values=cache).logits
    assert cache.layers[0].keys.dtype == cache_dtype
    assert first.dtype == model_dtype
    assert first[mask.bool()].isfinite().all()


def test_empty_memory_is_replaced_when_the_value_size_changes():
    cache = KVCache()
    cache.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
    cache.reset()
    keys, values = cache.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 6), 0)
    assert keys.shape[-1] == 4
    assert values.shape[-1] == 6
