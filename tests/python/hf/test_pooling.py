"""The mean of sentence-transformers over the tokens of a sentence: the same bits in any padding."""

from __future__ import annotations

import pytest
import torch
from support.accuracy import assert_same_bits
from support.calls import CallCounter
from torch import nn

pytest.importorskip("transformers")

from masked_attn.hf.layers.pooling import ExactMean, fuse_pooling, mean_of_visible, restore_pooling

pytestmark = pytest.mark.integration

LENGTHS = [1, 2, 9, 16, 33, 64]
SIDES = pytest.mark.parametrize("side", ["left", "right"])
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


def batch(side, longest, width=40, dtype=torch.float32):
    """Rows that do not depend on the padding, ``[batch, longest, width]``, and their mask."""
    generator = torch.Generator().manual_seed(6)
    hidden = torch.full((len(LENGTHS), longest, width), torch.nan, dtype=dtype)
    mask = torch.zeros(len(LENGTHS), longest, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        real = slice(length) if side == "right" else slice(longest - length, longest)
        hidden[row, real] = torch.randn(length, width, generator=generator).to(dtype)
        mask[row, real] = 1
    return hidden, mask


@SIDES
@DTYPES
def test_the_mean(side, dtype):
    hidden, mask = batch(side, 70, dtype=dtype)
    found = mean_of_visible(hidden, mask.bool())
    expected = hidden.double().nan_to_num().sum(1) / mask.sum(1, keepdim=True)
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=2 * eps, rtol=2 * eps)


@SIDES
@DTYPES
@pytest.mark.parametrize("width", [7, 40, 384])
def test_a_row_has_the_same_bits_in_every_batch(side, dtype, width):
    hidden, mask = batch(side, 64, width, dtype)
    alone = torch.cat(
        [
            mean_of_visible(h[m.bool()][None], m[m.bool()][None].bool())
            for h, m in zip(hidden, mask, strict=True)
        ]
    )
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for longest in (64, 65, 130):
                for rows in (slice(None), slice(2, 5), slice(5, 6)):
                    hidden, mask = batch(side, longest, width, dtype)
                    assert_same_bits(mean_of_visible(hidden[rows], mask[rows].bool()), alone[rows])
    finally:
        torch.set_num_threads(threads)


def test_a_row_without_tokens_is_zero():
    hidden, mask = batch("right", 64)
    mask[2] = 0
    assert torch.equal(mean_of_visible(hidden, mask.bool())[2], torch.zeros(40))


def pooling(**options):
    modules = pytest.importorskip(
        "sentence_transformers.sentence_transformer.modules",
        reason="sentence-transformers is not installed",
    )
    module = modules.Pooling(40, **options)
    fuse_pooling(module, nn.Linear(1, 1))
    assert isinstance(module.__dict__["forward"], ExactMean)
    return module


def pooled(module, hidden, mask, **more):
    features = {"token_embeddings": hidden, "attention_mask": mask, **more}
    with CallCounter() as calls:
        out = module(features)["sentence_embedding"]
    return calls["masked_attention"], out


@SIDES
def test_pooling_of_sentence_transformers(side):
    hidden, mask = batch(side, 70)
    module = pooling(pooling_mode="mean")
    calls, found = pooled(module, hidden, mask)
    assert calls == 1
    restore_pooling(module)
    calls, expected = pooled(module, hidden.nan_to_num(), mask)
    assert calls == 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "mode", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("mean", "max")]
)
def test_other_modes_run_stock_code(mode):
    hidden, mask = batch("right", 70)
    module = pooling(pooling_mode=mode)
    calls, found = pooled(module, hidden.nan_to_num(), mask)
    restore_pooling(module)
    assert calls == 0
    assert_same_bits(found, pooled(module, hidden.nan_to_num(), mask)[1])


def test_other_inputs_run_stock_code():
    hidden, mask = batch("right", 70)
    hidden = hidden.nan_to_num()
    module = pooling(pooling_mode="mean")
    without_prompt = pooling(pooling_mode="mean", include_prompt=False)
    cases = [
        (module, hidden.clone().requires_grad_(), mask, {}),
        (module, hidden, mask.float(), {}),
        (module, hidden, mask[:, :-1], {}),
        (module, hidden, mask, {"token_weights_sum": mask.sum(1)}),
        (without_prompt, hidden, mask, {"prompt_length": 1}),
    ]
    for each, x, seen, more in cases:
        calls, found = pooled(each, x, seen, **more)
        restore_pooling(each)
        assert calls == 0
        assert_same_bits(found, pooled(each, x, seen, **more)[1])
        fuse_pooling(each, nn.Linear(1, 1))
