"""Random steps of a KVCache and of the DynamicCache beside it."""

from __future__ import annotations

import random

import pytest
import torch

pytest.importorskip("transformers")

from hf.cache_pairs import append, assert_same, both, old_reset
from transformers import DynamicCache

from masked_attn.hf import KVCache

pytestmark = pytest.mark.integration


class Walk:
    """The same random steps for a KVCache and a DynamicCache."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        settings = self.random.choice([{}, {"max_length": 2}, {"max_length": 30}])
        self.caches = both(**settings)
        self.held = []

    def step(self):
        steps = [self.append, self.compress, self.crop, self.rows, self.scale, self.rebuild]
        self.random.choice(steps if old_reset() else [*steps, self.forget])()
        assert_same(*self.caches)
        assert all(torch.equal(part, kept) for part, kept in self.held)

    def append(self):
        batch = self.caches[1].layers[0].keys.shape[0]
        tokens = self.random.randint(1, 4)
        append(self.caches, tokens, batch, seed=self.random.randrange(1000))

    def compress(self):
        self.hold()
        length = self.caches[1].get_seq_length()
        kept = sorted(self.random.sample(range(length), self.random.randint(0, length)))
        start = self.random.randint(0, length)
        choices = [lambda t: t[:, :, kept], lambda t: t[:, :, start:], lambda t: t[:, :, :start]]
        choose = self.random.choice(choices)
        names = self.random.sample(["keys", "values"], 2)
        for cache in self.caches:
            for layer in cache.layers:
                for name in names:
                    setattr(layer, name, choose(getattr(layer, name)))

    def crop(self):
        number = -self.random.randint(0, self.caches[1].get_seq_length())
        for cache in self.caches:
            cache.crop(number)

    def rows(self):
        batch = self.caches[1].layers[0].keys.shape[0]
        rows = torch.tensor([self.random.randrange(batch) for _ in range(batch)])
        change = self.random.choice(
            [
                lambda cache: cache.reorder_cache(rows),
                lambda cache: cache.batch_select_indices(rows[:2]),
                lambda cache: cache.batch_repeat_interleave(2 if batch < 4 else 1),
            ]
        )
        for cache in self.caches:
            change(cache)

    def scale(self):
        self.hold()
        for cache in self.caches:
            for layer in cache.layers:
                layer.keys = layer.keys * 2

    def rebuild(self):
        ours, stock = self.caches
        self.caches = KVCache(stock), DynamicCache(ours)

    def forget(self):
        batch = self.random.randint(1, 3)
        for cache in self.caches:
            cache.reset()
        assert_same(*self.caches)
        append(self.caches, tokens=3, batch=batch)

    def hold(self):
        """What was read before an assignment keeps its values afterwards."""
        self.held += [(part, part.clone()) for layer in self.caches[0] for part in layer[:2]]


@pytest.mark.parametrize("seed", range(60))
def test_random_steps(seed):
    walk = Walk(seed)
    for _ in range(25):
        walk.step()
    walk.append()
