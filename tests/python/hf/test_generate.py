"""The main job: a left-padded batch gives the same tokens as stock and as each prompt alone."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import generate, generate_alone, gpt2, positions_of, prompts
from hf.tokens import assert_same_as_alone, assert_same_tokens, assert_varied

from masked_attn.hf import KVCache, patch, patched, paths

pytestmark = pytest.mark.integration

SHAPES = [
    pytest.param({"layers": 1, "heads": 1, "embed": 8, "seed": 0}, [1, 6, 3], id="1x1x8"),
    pytest.param({"layers": 2, "heads": 2, "embed": 32}, [5, 8, 3], id="2x2x32"),
    pytest.param(
        {"layers": 3, "heads": 3, "embed": 45, "std": 0.35, "seed": 0}, [2, 17, 9, 4], id="3x3x45"
    ),
    pytest.param({"layers": 2, "heads": 4, "embed": 64, "std": 0.35}, [33, 1, 20], id="2x4x64"),
]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("rival", ["eager", "sdpa"])
@pytest.mark.parametrize(("shape", "lengths"), SHAPES)
def test_left_padded_batch_equals_stock_and_each_prompt_alone(shape, lengths, rival, fused):
    ids, mask = prompts(lengths)
    stock = gpt2(**shape, implementation=rival)
    expected = generate(stock, ids, mask)
    assert_varied(expected)

    model = patch(gpt2(**shape, implementation=rival), fused=fused)
    result = generate(model, ids, mask)

    assert_same_tokens(result, expected)
    assert_same_as_alone(result, generate_alone(stock, ids, mask))
    path = "cached_attention" if fused else "textbook"
    assert paths(model) == dict.fromkeys(range(shape["layers"]), path)


@pytest.mark.parametrize(("shape", "lengths"), SHAPES)
def test_logits_of_every_step_equal_one_pass_of_stock(shape, lengths):
    ids, mask = prompts(lengths)
    model = gpt2(**shape)
    sequences = generate(model, ids, mask).sequences
    new = sequences.shape[1] - ids.shape[1]
    full_mask = torch.cat([mask, mask.new_ones(len(ids), new)], dim=1)
    positions = positions_of(full_mask)
    with torch.no_grad():
        expected = model(sequences, attention_mask=full_mask, position_ids=positions).logits

    cache, start = KVCache(), 0
    with torch.no_grad(), patched(model):
        for end in range(ids.shape[1], sequences.shape[1] + 1):
            step = model(
                sequences[:, start:end],
                attention_mask=full_mask[:, :end],
                position_ids=positions[:, start:end],
                past_key_values=cache,
            )
            real = full_mask[:, start:end].bool()
            torch.testing.assert_close(
                step.logits[real], expected[:, start:end][real], atol=2e-4, rtol=1e-4
            )
            start = end
    assert cache.get_seq_length() == sequences.shape[1]


@pytest.mark.parametrize("flags", ["scale_attn_weights", "scale_attn_by_inverse_layer_idx", "both"])
def test_scale_flags(flags):
    config = {
        "scale_attn_weights": flags == "both",
        "scale_attn_by_inverse_layer_idx": flags != "scale_attn_weights",
    }
    ids, mask = prompts([3, 7, 5])
    expected = generate(gpt2(**config, std=0.25), ids, mask)
    assert_varied(expected)
    assert_same_tokens(generate(patch(gpt2(**config, std=0.25)), ids, mask), expected)


@pytest.mark.parametrize("fused", [True, False])
def test_reorder_and_upcast(fused):
    config = {"reorder_and_upcast_attn": True, "implementation": "eager"}
    ids, mask = prompts([3, 7, 5])
    expected = generate(gpt2(**config), ids, mask)
    assert_same_tokens(generate(patch(gpt2(**config), fused=fused), ids, mask), expected)


def test_float64_and_bfloat16():
    ids, mask = prompts([3, 7, 5])
    for dtype in (torch.float64, torch.bfloat16):
        expected = generate(gpt2().to(dtype), ids, mask, 4)
        result = generate(patch(gpt2().to(dtype)), ids, mask, 4)
        tolerance = 1e-9 if dtype == torch.float64 else 0.5
        torch.testing.assert_close(
            result.logits[0], expected.logits[0], atol=tolerance, rtol=tolerance
        )
