"""Keys and values of a KVCache are assigned as those of the DynamicCache beside it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

pytest.importorskip("transformers")

from hf.cache_pairs import KEY_DIM, append, assert_same, both, states
from transformers import DynamicCache

from masked_attn.hf import KVCache

pytestmark = pytest.mark.integration

# What cache compression does to a layer: keys first, then values, then the next tokens.
COMPRESSIONS = {
    "chosen": lambda states: states[:, :, [0, 3, 6]],
    "index_select": lambda states: states.index_select(2, torch.tensor([6, 1])),
    "gather per head": lambda states: states.gather(
        2, torch.tensor([[0, 2], [5, 6]])[None, :, :, None].expand(2, 2, 2, states.shape[3])
    ),
    "sinks and last": lambda states: torch.cat([states[:, :, :1], states[:, :, -3:]], dim=2),
    "view of the last": lambda states: states[:, :, -4:],
    "view of the first": lambda states: states[:, :, :4],
    "view of every other": lambda states: states[:, :, ::2],
    "more tokens": lambda states: torch.cat([states, states], dim=2),
    "other values": lambda states: states * 2,
    "the same": lambda states: states,
    "one row": lambda states: states[1:],
    "more rows": lambda states: states.repeat(3, 1, 1, 1),
    "nothing left": lambda states: states[:, :, :0],
    "half": lambda states: states.half(),
}


@pytest.mark.parametrize("settings", [{}, {"max_length": 4}, {"max_length": 40}], ids=str)
@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_assigned_keys_and_values(kind, settings):
    ours, stock = both(**settings)
    for layer in (*ours.layers, *stock.layers):
        old_keys, old_values = layer.keys.clone(), layer.values.clone()
        layer.keys = COMPRESSIONS[kind](layer.keys)
        assert torch.equal(layer.values, old_values)
        assert layer.get_seq_length() == COMPRESSIONS[kind](old_keys).shape[2]
        layer.values = COMPRESSIONS[kind](layer.values)
    if kind != "half":
        assert_same(ours, stock)
    batch = stock.layers[0].keys.shape[0]
    for step in range(3):
        append((ours, stock), batch=batch, seed=step)
    ours.crop(-1), stock.crop(-1)
    append((ours, stock), batch=batch, tokens=2)


def test_after_an_assignment_the_cache_is_written_in_place_again():
    ours, stock = both(max_length=16)
    for layer in (*ours.layers, *stock.layers):
        layer.keys, layer.values = layer.keys[:, :, 2:], layer.values[:, :, 2:]
    append((ours, stock))
    address, capacity = ours.layers[0].keys.data_ptr(), ours.layer(0).buffer.capacity
    for seed in range(8):
        append((ours, stock), seed=seed)
        assert ours.layers[0].keys.data_ptr() == address
    assert capacity == 16


def test_views_and_tensors_of_before_are_never_written():
    """Code keeps ``old = layer.keys`` while it assigns, and its own tensors afterwards."""
    ours, stock = both(max_length=16)
    for layer in (*ours.layers, *stock.layers):
        layer.keys, layer.values = layer.keys + layer.keys.flip(0), layer.values.flip(0)
    old = [part for layer in ours for part in layer[:2]]
    kept = [part.clone() for part in old]
    given = [states(tokens=4, seed=layer) for layer in range(2)]
    for cache in (ours, stock):
        for layer, (keys, values) in zip(cache.layers, given, strict=True):
            layer.keys, layer.values = keys, values
    for cache in (ours, stock):
        cache.crop(-2)
        cache.reorder_cache(torch.tensor([1, 0]))
    append((ours, stock), tokens=4)
    for cache in (ours, stock):
        cache.reorder_cache(torch.tensor([1, 1]))
    ours.reset()
    ours.update(*states(tokens=7, seed=9), 0)
    assert all(torch.equal(a, b) for a, b in zip(old, kept, strict=True))
    for layer, pair in enumerate(given):
        assert all(
            torch.equal(a, b) for a, b in zip(pair, states(tokens=4, seed=layer), strict=True)
        )


def test_rows_are_taken_out_and_put_back():
    """Micro batches: a few rows at a time are assigned, extended, and joined again."""
    ours, stock = both(max_length=16)
    for cache in (ours, stock):
        for layer in cache.layers:
            keys, values, parts = layer.keys, layer.values, []
            for row in range(2):
                layer.keys, layer.values = keys[row : row + 1], values[row : row + 1]
                parts.append(layer.update(*states(batch=1, tokens=1, seed=row)))
            layer.keys, layer.values = (torch.cat(part) for part in zip(*parts, strict=True))
    assert_same(ours, stock)
    append((ours, stock))


def test_keys_and_values_change_places():
    ours, stock = both()
    for cache in (ours, stock):
        for layer in cache.layers:
            layer.values = layer.values[..., :KEY_DIM]
            layer.keys, layer.values = layer.values, layer.keys
    assert_same(ours, stock)


def test_a_written_element_is_there():
    ours, stock = both()
    for layer in (*ours.layers, *stock.layers):
        layer.keys[:, :, 1] = 7.0
        layer.values.mul_(2)
        layer.keys, layer.values = layer.keys[:, :, :3], layer.values[:, :, :3]
        layer.keys[:, :, 0] = 9.0
    assert_same(ours, stock)
    append((ours, stock))


def test_assigned_tensors_take_the_dtype_of_the_layer():
    cache = KVCache(dtype=torch.bfloat16)
    cache.update(*states(), 0)
    layer = cache.layers[0]
    layer.keys, layer.values = (part[:, :, :2].float() for part in (layer.keys, layer.values))
    assert layer.keys.dtype == layer.values.dtype == torch.bfloat16
    layer.keys, layer.values = (part.double() for part in states(tokens=1))
    keys, _ = cache.update(*states(tokens=1), 0)
    assert layer.keys.dtype == torch.bfloat16
    assert keys.dtype == torch.float32
    assert torch.equal(keys, torch.cat([states(tokens=1)[0]] * 2, dim=2).bfloat16().float())


@pytest.mark.parametrize("fill", ["update", "is_initialized"])
def test_layers_filled_by_hand(fill):
    """DynamicLayer forgets what it was given before its first update, unless it is told."""
    ours, stock = KVCache(num_layers=2), DynamicCache([states(), states()])
    for layer in ours.layers:
        layer.keys, layer.values = states()
        if fill == "is_initialized":
            layer.is_initialized = True
    assert_same(ours, stock)
    append((ours, stock))
    assert ours.layers[0].device == torch.device("cpu")


@pytest.mark.parametrize("free", [None, torch.tensor([])], ids=["None", "empty"])
def test_none_and_empty_tensors_free_a_layer(free):
    ours, _ = both()
    for layer in ours.layers:
        layer.keys = free
        assert layer.get_seq_length() == 0
        layer.values = free
        assert layer.keys is layer.values is free
        assert layer.buffer.capacity == 0
        layer.reorder_cache(torch.tensor([1, 0]))
        layer.crop(-1)
    append((ours, DynamicCache()), batch=3)


def test_half_an_assignment_is_an_error_before_anything_is_written():
    ours, _ = both()
    layer = ours.layers[0]
    for keys in (layer.keys[:, :, :3], layer.keys[:1], layer.keys[:, :1], layer.keys.to("meta")):
        layer.keys = keys
        for call in (layer.update, layer.reserve):
            with pytest.raises(ValueError, match=r"keys .* and values .* do not fit"):
                call(*states(tokens=1))
        assert torch.equal(layer.values, both()[1].layers[0].values)
    layer.keys = None
    with pytest.raises(ValueError, match=r"keys None and values \[2, 2, 7, 6\]"):
        layer.update(*states(tokens=1))
    layer.values = None
    layer.update(*states(tokens=1))


def test_what_cannot_be_keys_is_refused():
    layer = both()[0].layers[0]
    with pytest.raises(ValueError, match=r"keys must be \[batch, .*got \[2, 3\]"):
        layer.keys = torch.ones(2, 3)
    with pytest.raises(TypeError, match="values must be a tensor or None, got list"):
        layer.values = [1.0]
    assert layer.get_seq_length() == 7


def test_a_half_compressed_layer_moves_like_a_stock_layer():
    ours, stock = both()
    for cache in (ours, stock):
        layer = cache.layers[0]
        layer.keys = layer.keys[:, :, -4:]
        cache.crop(-1)
        cache.reorder_cache(torch.tensor([1, 0]))
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([0, 3]))
    assert_same(ours, stock)


def test_gradients_flow_through_assigned_tensors():
    found = []
    for cache in both():
        key, value = (part.requires_grad_() for part in states(tokens=4))
        layer = cache.layers[0]
        layer.keys, layer.values = key * 2, value * 3
        layer.reorder_cache(torch.tensor([1, 1]))
        keys, values = cache.update(*states(tokens=1), 0)
        (keys.square().sum() + values.square().sum()).backward()
        found.append((key.grad, value.grad))
        with torch.no_grad():  # what the graph holds is left alone
            cache.crop(-2)
            cache.update(*states(tokens=2), 0)
            cache.reorder_cache(torch.tensor([1, 0]))
        assert torch.equal(key.grad[:1], found[0][0][:1])
    for ours, stock in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock)


def test_a_graph_that_holds_the_values_alone_survives_reordering():
    """As with LoRA on the values of the first layer: its keys need no gradient."""
    cache = KVCache()
    value = states()[1].requires_grad_()
    _, values = cache.update(states()[0], value * 1, 0)
    loss = values.square().sum()
    with torch.no_grad():
        for _ in range(3):
            cache.reorder_cache(torch.tensor([1, 0]))
    loss.backward()
    torch.testing.assert_close(value.grad, 2 * value)


def test_inference_tensors_are_assigned_and_left_behind():
    ours, stock = both()
    with torch.inference_mode():
        kept = [tuple(part[:, :, 2:] + 0 for part in layer[:2]) for layer in stock]
    for cache in (ours, stock):
        for layer, (keys, values) in zip(cache.layers, kept, strict=True):
            layer.keys, layer.values = keys, values
    append((ours, stock))
    ours.crop(-1), stock.crop(-1)
    append((ours, stock))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_copies_of_assigned_layers_are_independent(twin):
    ours, stock = both()
    for layer in (*ours.layers, *stock.layers):
        layer.keys, layer.values = layer.keys[:, :, ::2], layer.values[:, :, ::2]
    other = twin(ours)
    assert_same(other, stock)
    other.layers[0].keys.zero_()
    append((ours, stock))
