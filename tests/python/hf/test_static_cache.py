"""The static cache of transformers: written in place, its position never read by the host.

A step whose inputs stay in the same memory must go on where the last one ended: that is what a
captured CUDA graph needs. Here torch.compile stands in for it, with one graph for all steps.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import gpt2, positions_of, prompts
from hf.steps import CAPACITY, Steps
from transformers import StaticCache
from transformers.cache_utils import StaticSlidingWindowLayer

from masked_attn.hf import patch, paths
from masked_attn.hf.caches.static import is_static

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
def test_steps_in_the_same_memory_equal_stock(fused):
    stock, model = gpt2(), patch(gpt2(), fused=fused)
    expected = Steps(stock).run(stock)
    result = Steps(model).run(model)
    torch.testing.assert_close(result, expected, atol=2e-4, rtol=1e-4)
    assert torch.equal(result.argmax(-1), expected.argmax(-1))
    assert set(paths(model).values()) == {"cached_attention" if fused else "textbook"}


def test_one_graph_serves_every_step():
    stock, model = gpt2(), patch(gpt2())
    expected = Steps(stock).run(stock)
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    step = Steps(model)
    result = step.run(torch.compile(model, backend=count, fullgraph=True))
    torch.testing.assert_close(result, expected, atol=2e-4, rtol=1e-4)
    (graph,) = graphs
    ours = [str(node.target) for node in graph.graph.nodes if "masked_attn." in str(node.target)]
    expected = {"masked_attn.cached_attention.device": 2, "masked_attn.linear": 9}
    assert Counter(ours) == expected


def test_a_full_cache_is_an_error_as_in_stock():
    for model in (gpt2(), patch(gpt2())):
        step = Steps(model)
        step.run(model)
        assert step.length < CAPACITY
        with torch.no_grad():
            for _ in range(step.length, CAPACITY):
                model(**step.inputs())
        with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
            model(**step.inputs())


def test_offloaded_and_sliding_layers_keep_their_own_update():
    """They live elsewhere between calls, or forget tokens: only they can write themselves."""
    cache = StaticCache(config=gpt2().config, max_cache_len=CAPACITY)
    assert is_static(cache)
    cache.layers[1] = StaticSlidingWindowLayer(max_cache_len=CAPACITY, sliding_window=4)
    assert not is_static(cache)
    cache = StaticCache(config=gpt2().config, max_cache_len=CAPACITY)
    cache.offloading = True
    assert not is_static(cache)
    assert not is_static(None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cache_of_another_dtype(dtype):
    """float16 and bfloat16 are read as they are; others are for ``update`` to take or refuse."""
    model = patch(gpt2())
    cache = StaticCache(config=model.config, max_cache_len=CAPACITY)
    heads, dim = model.config.n_head, model.config.n_embd // model.config.n_head
    cache.early_initialization(3, heads, dim, dtype, torch.device("cpu"))
    ids, mask = prompts([5, 9, 3])
    inputs = {"attention_mask": mask, "position_ids": positions_of(mask), "past_key_values": cache}
    if dtype == torch.float64:  # in the words of stock code, whose update it is
        for refuses in (gpt2(), model):
            with pytest.raises(RuntimeError, match="index_copy_"), torch.no_grad():
                refuses(ids, **inputs)
        return
    with torch.no_grad():
        out = model(ids, **inputs).logits
        expected = gpt2()(ids, attention_mask=mask, position_ids=positions_of(mask)).logits
    real = mask.bool()
    error = (out - expected)[real].abs().max() / expected[real].abs().max()
    assert error < 0.02
    assert set(paths(model).values()) == {"cached_attention"}
