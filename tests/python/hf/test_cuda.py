"""A patched GPT-2 on a GPU: tokens, no waiting for the device, a step as one CUDA graph."""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import generate, generate_alone, gpt2, positions_of, prompts
from hf.steps import STEPS, Steps
from hf.tokens import assert_same_as_alone, assert_same_tokens
from support.devices import CUDA

from masked_attn import KVCache
from masked_attn.hf import patch, paths

pytestmark = [pytest.mark.integration, pytest.mark.cuda]

MODES = {
    "greedy": {},
    "static-cache": {"cache_implementation": "static", "disable_compile": True},
    "static-cache-compiled": {"cache_implementation": "static"},
    "chunked-prefill": {"prefill_chunk_size": 4},
    "beams": {"num_beams": 3},
}


def on_cuda(**settings):
    return gpt2(**settings).to(CUDA)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("mode", MODES)
def test_tokens_equal_stock(mode, fused):
    ids, mask = (part.to(CUDA) for part in prompts([5, 9, 3]))
    expected = generate(on_cuda(), ids, mask, 12, **MODES[mode])
    model = patch(on_cuda(), fused=fused)
    result = generate(model, ids, mask, 12, **MODES[mode])
    if "num_beams" in MODES[mode]:
        assert torch.equal(result.sequences, expected.sequences)
    else:
        assert_same_tokens(result, expected)
    assert set(paths(model).values()) == {"cached_attention" if fused else "textbook"}


def test_tokens_equal_those_of_each_prompt_alone():
    ids, mask = (part.to(CUDA) for part in prompts([5, 9, 3]))
    alone = generate_alone(on_cuda(), ids, mask)
    assert_same_as_alone(generate(patch(on_cuda()), ids, mask), alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_smaller_dtypes_are_close_to_float32(dtype):
    ids, mask = (part.to(CUDA) for part in prompts([5, 9, 3]))
    inputs = {"attention_mask": mask, "position_ids": positions_of(mask)}
    with torch.no_grad():
        truth = gpt2().double().to(CUDA)(ids, **inputs).logits[mask.bool()]
        ours = patch(on_cuda().to(dtype))(ids, **inputs).logits[mask.bool()].double()
    # Stock's own error is 1.5 to 1.9 steps here; how exact it is on a machine must not matter.
    assert (ours - truth).abs().max() <= 6 * torch.finfo(dtype).eps * truth.abs().max()


@contextlib.contextmanager
def waits():
    """The warnings of torch about each wait for the device."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("padding_free", [True, False], ids=["padding-free", "padded"])
def test_only_a_padded_prompt_waits_for_the_device(padding_free):
    """For its mask on the way to the host, and for two index tensors on the way back."""
    model = patch(on_cuda(), padding_free=padding_free)
    ids, mask = (part.to(CUDA) for part in prompts([5, 9, 3]))
    grown = torch.cat([mask, mask[:, -1:]], dim=1)

    def forwards():
        cache = KVCache()
        with torch.no_grad():
            with waits() as of_prompt:
                model(ids, attention_mask=mask, past_key_values=cache)
            with waits() as of_step:
                model(ids[:, -1:], attention_mask=grown, past_key_values=cache)
        return len(of_prompt), len(of_step)

    forwards()  # what torch and cuBLAS do once
    assert forwards() == (3 if padding_free else 0, 0)


def test_a_wait_is_counted():
    """The control of the test above."""
    with waits() as found:
        torch.ones(1, device=CUDA).item()
    assert len(found) == 1


def test_a_step_is_one_graph():
    stock, model = on_cuda(), patch(on_cuda())
    expected = Steps(stock, CUDA).run(stock)
    steps = Steps(model, CUDA)
    steps.run(model)  # warms up every library
    steps = Steps(model, CUDA)
    positions = [layer.cumulative_length.clone() for layer in steps.cache.layers]
    graph = torch.cuda.CUDAGraph()
    steps.make_room()
    with torch.no_grad(), torch.cuda.graph(graph):
        logits = model(**steps.inputs()).logits
    # Capturing runs nothing, but the host counted on: only the device's own counters matter.
    for layer, position in zip(steps.cache.layers, positions, strict=True):
        assert torch.equal(layer.cumulative_length, position)
    found = []
    for step in range(STEPS):
        if step > 0:
            steps.make_room()
        graph.replay()
        found.append(steps.take(logits))
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=2e-4, rtol=1e-4)
    assert set(paths(model).values()) == {"cached_attention"}
