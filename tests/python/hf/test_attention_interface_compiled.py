"""Compiled steps over a static cache: one graph, as stock sdpa has, with stock's tokens.

The first has two cases of transformers' own tests of models
(test_generate_compile_model_forward_fullgraph, test_static_cache_no_recompile_with_smaller_length).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import generate, gpt2, prompts
from hf.test_attention_interface import SIZES, build, llama, mistral
from hf.tokens import assert_same_tokens
from transformers import CompileConfig, Qwen2Config, Qwen2ForCausalLM, StaticCache

pytestmark = pytest.mark.integration

TOKENS = 6


def gpt2_on(implementation):
    return gpt2(implementation=implementation)


def qwen2(implementation):
    sizes = {name: size for name, size in SIZES.items() if name != "head_dim"}
    return build(Qwen2ForCausalLM, Qwen2Config(**sizes), implementation)


def mistral_without_a_window(implementation):
    """A static layer with one has a graph for each step, in stock code too."""
    return mistral(implementation, window=None)


MODELS = [gpt2_on, llama, qwen2, mistral_without_a_window]


class Graphs:
    """A compiler that runs what it is given as it is, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __deepcopy__(self, _memo: Any) -> Graphs:
        return self  # generate copies its settings

    def __call__(self, graph: Any, _inputs: Any) -> Any:
        self.count += 1
        return graph.forward

    def config(self) -> CompileConfig:
        config = CompileConfig(backend=self, fullgraph=True, dynamic=False, mode=None)
        config._compile_all_devices = True
        return config


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("make", MODELS)
def test_one_graph_for_every_step_and_for_a_shorter_prompt(make):
    counts = {}
    for implementation in ("sdpa", "masked_attn"):
        model, graphs = make(implementation), Graphs()
        settings = {"cache_implementation": "static", "compile_config": graphs.config()}
        for lengths, tokens in (([5, 9, 3], TOKENS), ([4, 6, 2], TOKENS - 2)):
            ids, mask = prompts(lengths)
            result = generate(model, ids, mask, tokens, **settings)
            assert_same_tokens(result, generate(make("eager"), ids, mask, tokens))
        counts[implementation] = graphs.count
    assert counts == {"sdpa": 1, "masked_attn": 1}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("make", [gpt2_on, llama])
def test_chunks_of_a_prompt_into_a_static_cache(make, padded):
    ids, mask = prompts([8, 5] if padded else [8, 8])
    logits = []
    for implementation in ("sdpa", "masked_attn"):
        model = make(implementation)
        cache = StaticCache(config=model.config, max_cache_len=12)
        parts = []
        with torch.no_grad():
            for start in range(0, 8, 4):
                part = model(
                    ids[:, start : start + 4],
                    attention_mask=mask[:, : start + 4] if padded else None,
                    past_key_values=cache,
                )
                parts.append(part.logits)
        logits.append(torch.cat(parts, dim=1)[mask.bool()])
    torch.testing.assert_close(logits[1], logits[0], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [gpt2_on, llama])
def test_compiled_chunks_have_as_many_graphs_as_stock(make):
    ids, _ = prompts([8, 8])
    counts, logits = [], []
    for implementation in ("sdpa", "masked_attn"):
        torch._dynamo.reset()
        model, graphs = make(implementation), Graphs()
        cache = StaticCache(config=model.config, max_cache_len=12)
        cache.early_initialization(2, *_cache_shape(model), torch.float32, torch.device("cpu"))
        forward = torch.compile(model.forward, backend=graphs, fullgraph=True, dynamic=False)
        with torch.no_grad():
            parts = [forward(x, past_key_values=cache).logits for x in ids.split(2, dim=1)]
        counts.append(graphs.count)
        logits.append(torch.cat(parts, dim=1))
    torch.testing.assert_close(logits[1], logits[0], atol=2e-4, rtol=1e-4)
    assert counts[1] == counts[0]


def _cache_shape(model: Any) -> tuple[int, int]:
    config = model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    return heads, config.hidden_size // config.num_attention_heads
