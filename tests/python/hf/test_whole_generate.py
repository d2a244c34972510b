"""A whole ``generate`` gives a row the same logits, bit for bit, in any batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from hf.whole import (
    LENGTHS,
    alone,
    compare,
    odd_model,
    padded,
    ragged,
    run,
    same_bits,
    unequal,
)
from transformers import DynamicCache

from masked_attn import _C
from masked_attn.hf import patch
from masked_attn.hf.layers import linear as fast_linear

pytestmark = pytest.mark.integration

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
TOOL = Path(__file__).parents[3] / "tools" / "whole_generate.py"
OTHER_SETS = [name for name in _C.instruction_sets() if name != _C.selected_instruction_set()]
SOME = [300, 1, 17, 64, 9, 129, 8, 33, 2, 250]


def assert_same_as_alone(model, prompts, *, extra=0, copies=1, **options):
    expected = alone(model, prompts, **options)
    for order in (1, -1):
        result = run(model, prompts[::order], extra=extra, **options)
        assert not unequal(result, expected[::order], copies)
    return result, expected


@pytest.mark.parametrize(
    ("dtype", "threads"),
    [
        (torch.float32, (1, 2, 3)),
        (torch.bfloat16, (1, 2)),
        (torch.float16, (2,)),
        (torch.float64, (2,)),
    ],
    ids=str,
)
def test_ragged_batches(dtype, threads):
    rows, lines = compare(patch(odd_model(dtype)), LENGTHS, threads)
    assert rows == len(threads) * (2 * 40 + 3 + 7 + 2) and not lines


@pytest.mark.parametrize("name", OTHER_SETS)
def test_ragged_batches_on_another_instruction_set(name):
    """It is chosen once for a process."""
    done = subprocess.run(
        [sys.executable, str(TOOL), "--rows", "24", "--inner", "300", "--threads", "2"],
        # Threads that wait for each other must not keep a busy machine busy.
        env={**os.environ, "MASKED_ATTN_ISA": name, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith(f"{name} ") for line in lines)
    assert all(line.endswith(": 60 rows, 0 unequal") for line in lines)


def test_a_change_of_the_order_of_sums_shows(monkeypatch):
    def halves(x, weight, bias, *, transposed, **more):
        rows = x.numel() // x.shape[-1]
        if rows <= 8 or not transposed:
            return linear(x, weight, bias, transposed=transposed, **more)
        half = x.shape[-1] // 2
        first = linear(x[..., :half], weight[:half], None, transposed=True)
        return first + linear(x[..., half:], weight[half:], bias, transposed=True)

    linear = fast_linear.linear
    monkeypatch.setattr(fast_linear, "linear", halves)
    _, lines = compare(patch(odd_model()), SOME, threads=(1,))
    assert len(lines) >= 2


@DTYPES
def test_prompts_of_few_tokens(dtype):
    model = patch(odd_model(dtype))
    prompts = ragged(range(1, 11))
    assert_same_as_alone(model, prompts, extra=3)
    assert_same_as_alone(model, prompts[:9])


@DTYPES
@pytest.mark.parametrize("length", [1, 2, 8, 9, 65])
def test_batches_without_pads(dtype, length):
    """They are not packed."""
    assert_same_as_alone(patch(odd_model(dtype)), ragged([length] * 5))


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_search(beams):
    model = patch(odd_model())
    result, expected = assert_same_as_alone(
        model, ragged(SOME), extra=2, copies=beams, num_beams=beams, new_tokens=6
    )
    scores = torch.cat([single.sequences_scores for single in expected]).flip(0)
    assert same_bits(result.sequences_scores, scores)
    for step, mine in enumerate(result.scores):
        theirs = torch.cat([single.scores[step] for single in reversed(expected)])
        assert same_bits(mine, theirs)


def test_sampling_given_the_draws():
    model, prompts = patch(odd_model()), ragged(SOME)
    result = run(model, prompts, do_sample=True, top_k=20, temperature=0.7, extra=4)
    tokens = result.sequences[:, -4:]
    greedy = run(model, prompts).sequences[:, -4:]
    assert (tokens != greedy).any()
    singles = [
        run(model, [prompt], tokens=row[None]) for prompt, row in zip(prompts, tokens, strict=True)
    ]
    assert not unequal(result, singles)


@pytest.mark.parametrize("chunk", [3, 8, 64])
def test_prompts_in_the_same_chunks(chunk):
    """A prompt that is longer by whole chunks is cut in the same places."""
    prompts = ragged([5 + chunk * count for count in (0, 1, 3)] if chunk > 5 else [7, 10, 19])
    assert_same_as_alone(patch(odd_model()), prompts, prefill_chunk_size=chunk)


def test_all_tokens_again_in_every_step():
    assert_same_as_alone(patch(odd_model()), ragged(SOME), use_cache=False)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_static_caches(implementation):
    model = patch(odd_model(implementation=implementation))
    assert_same_as_alone(model, ragged(SOME), cache_implementation="static")


def test_dynamic_caches():
    model = patch(odd_model())
    result, _ = assert_same_as_alone(model, ragged(SOME), cache_implementation="dynamic")
    assert type(result.past_key_values) is DynamicCache


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_caches_of_half_the_size(dtype):
    model, prompts = patch(odd_model(), cache_dtype=dtype), ragged(SOME)
    assert_same_as_alone(model, prompts)
    assert_same_as_alone(model, ragged([17] * 3))
    whole = alone(patch(odd_model()), prompts)
    for ours, theirs in zip(alone(model, prompts), whole, strict=True):
        assert same_bits(ours.logits[0], theirs.logits[0])  # from keys that are not rounded
        assert not same_bits(ours.logits[1], theirs.logits[1])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("padding_free", [True, False])
@DTYPES
@torch.no_grad()
def test_a_forward_of_a_padded_batch(dtype, padding_free, side):
    model = patch(odd_model(dtype), padding_free=padding_free)
    prompts = ragged(SOME)
    ids, mask = padded(prompts, extra=3)
    if side == "right":
        ids, mask = ids.flip(1), mask.flip(1)
        prompts = [prompt.flip(0) for prompt in prompts]
    logits = model(ids, attention_mask=mask).logits
    for row, prompt in enumerate(prompts):
        expected = model(prompt[None]).logits[0]
        assert same_bits(logits[row, mask[row].bool()], expected), row


@pytest.mark.parametrize("name", ["gelu", "gelu_pytorch_tanh", "relu", "silu", "swish"])
def test_activations(name):
    model = patch(odd_model(activation_function=name))
    torch.set_num_threads(3)
    assert_same_as_alone(model, ragged(SOME))


def test_a_head_of_its_own():
    assert_same_as_alone(patch(odd_model(tie_word_embeddings=False)), ragged(SOME))


def test_autocast():
    model = patch(odd_model())
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_as_alone(model, ragged(SOME))
