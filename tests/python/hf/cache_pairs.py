"""A KVCache and a DynamicCache that go through the same steps."""

from __future__ import annotations

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from masked_attn.hf import KVCache

HEADS, KEY_DIM, VALUE_DIM = 2, 4, 6


def states(batch=2, tokens=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(batch, HEADS, tokens, dim, generator=generator) for dim in (KEY_DIM, VALUE_DIM)
    )


def both(tokens=(5, 2), layers=2, **settings):
    """A KVCache and a DynamicCache with the same contents."""
    ours, stock = KVCache(**settings), DynamicCache()
    for seed, count in enumerate(tokens):
        for layer in range(layers):
            for cache in (ours, stock):
                cache.update(*states(tokens=count, seed=10 * seed + layer), layer)
    return ours, stock


def assert_same(ours, stock):
    assert len(ours) == len(stock)
    for index, (mine, theirs) in enumerate(zip(ours, stock, strict=True)):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            assert a is b is None or torch.equal(a, b)
        assert ours.layers[index].is_initialized == stock.layers[index].is_initialized
        assert ours.get_seq_length(index) == stock.get_seq_length(index)
        assert ours.get_mask_sizes(3, index) == stock.get_mask_sizes(3, index)


def append(caches, tokens=1, batch=2, seed=50):
    """The same new tokens for each cache; what ``update`` returns is equal, too."""
    for layer in range(2):
        returned = [cache.update(*states(batch, tokens, seed + layer), layer) for cache in caches]
        for parts in zip(*returned, strict=True):
            assert all(torch.equal(parts[0], part) for part in parts)
    assert_same(*caches)


def old_reset():
    """Whether a DynamicLayer keeps its length when it is reset."""
    layer = DynamicLayer()
    layer.update(*states())
    layer.reset()
    return layer.get_seq_length() > 0
