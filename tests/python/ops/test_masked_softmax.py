"""``masked_softmax`` against the float64 oracle, and the properties that need no tolerance."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import oracle
from support.accuracy import assert_all_zero, assert_same_bits, assert_softmax_accurate
from support.cases import (
    DTYPES,
    KEY_MASKS,
    MASK_SHAPES,
    SIZES,
    SMALL_SIZES,
    attn_mask,
    case_id,
    key_mask,
    mask_shape,
    rotate,
)
from support.oracle import Masks
from torch import Tensor

from masked_attn import masked_softmax

ROWS = rotate(
    80,
    seed=2,
    dtype=DTYPES,
    batch=(1, 2, 3),
    heads=(1, 2, 3),
    queries=SMALL_SIZES,
    keys=SIZES,
    padding=KEY_MASKS,
    attn=("none", "none", "bool", "float32", "float16", "bfloat16", "float64"),
    attn_shape=MASK_SHAPES,
    causal=(False, True),
    window=(None, None, 1, 7, 64),
    scale=(1.0, 0.125, -0.7, 3.0),
)


def build(row: dict[str, Any], device: torch.device) -> tuple[Tensor, Masks]:
    shape = row["batch"], row["heads"], row["queries"], row["keys"]
    scores = torch.randn(shape).mul(2).to(device, row["dtype"])
    padding = key_mask(row["padding"], row["batch"], row["keys"])
    bias = attn_mask(row["attn"], mask_shape(row["attn_shape"], *shape))
    return scores, Masks(padding, bias, row["causal"], row["window"]).to(device)


@pytest.mark.parametrize("row", ROWS, ids=case_id)
def test_accuracy(row: dict[str, Any], device: torch.device) -> None:
    scores, masks = build(row, device)
    ours = masked_softmax(scores, **masks.kwargs(), scale=row["scale"])
    assert_softmax_accurate(ours, scores, masks, row["scale"])
    masked = torch.from_numpy(~oracle.seen_keys(tuple(scores.shape), masks))  # type: ignore[arg-type]
    assert_all_zero(ours.cpu()[masked])
    assert ours.is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_of_a_row_sum_to_one(dtype: torch.dtype, device: torch.device) -> None:
    mask = key_mask("left", 3, 129, device)
    scores = torch.randn(3, 2, 65, 129).to(device, dtype)
    ours = masked_softmax(scores, key_mask=mask, causal=True)
    seen = oracle.seen_keys((3, 2, 65, 129), Masks(key_mask=mask, causal=True)).any(-1)
    sums = ours.double().sum(-1).cpu()
    step = torch.finfo(dtype).eps
    assert (sums[torch.from_numpy(seen)] - 1).abs().max() < 8 * step
    assert_all_zero(sums[torch.from_numpy(~seen)])


def test_equals_torch_where_nothing_is_masked(device: torch.device) -> None:
    scores = torch.randn(2, 3, 33, 65).to(device)
    assert_softmax_accurate(masked_softmax(scores), scores, Masks())
    assert_softmax_accurate(scores.softmax(-1), scores, Masks())


@pytest.mark.parametrize("keys", [1, 7, 8, 9, 63, 64, 65, 200])
def test_a_constant_added_to_a_row_changes_nothing(keys: int, device: torch.device) -> None:
    scores = torch.randn(1, 2, 5, keys).to(device)
    torch.testing.assert_close(
        masked_softmax(scores + 30.0, causal=True),
        masked_softmax(scores, causal=True),
        rtol=1e-4,
        atol=1e-6,
    )


def test_permuted_keys_permute_the_weights(device: torch.device) -> None:
    scores, mask = torch.randn(2, 2, 4, 100).to(device), key_mask("holes", 2, 100, device)
    order = torch.randperm(100).to(device)
    torch.testing.assert_close(
        masked_softmax(scores[..., order], key_mask=mask[:, order]),  # type: ignore[index]
        masked_softmax(scores, key_mask=mask)[..., order],
    )


def test_large_scores_do_not_overflow(device: torch.device) -> None:
    for dtype in DTYPES:
        top = torch.finfo(torch.float16).max
        scores = torch.tensor([top, -top, 0.0, top]).to(device, dtype).view(1, 1, 1, 4)
        expected = torch.tensor([0.5, 0.0, 0.0, 0.5]).to(dtype).view(1, 1, 1, 4)
        assert_same_bits(masked_softmax(scores), expected)
        # The scale comes first: the product is out of the range of float16.
        assert_same_bits(masked_softmax(scores, scale=1000.0), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_03_garbage_in_masked_scores(dtype: torch.dtype, device: torch.device) -> None:
    mask = key_mask("left", 3, 70, device)
    clean = torch.randn(3, 2, 20, 70).to(device, dtype)
    clean[~mask[:, None, None, :].expand_as(clean)] = 0  # type: ignore[index]
    expected = masked_softmax(clean, key_mask=mask, causal=True)
    for garbage in (math.nan, math.inf, -math.inf):
        dirty = clean.masked_fill(~mask[:, None, None, :], garbage)  # type: ignore[index]
        assert_same_bits(masked_softmax(dirty, key_mask=mask, causal=True), expected)


def test_04_nan_in_a_visible_score_stays_in_its_row(device: torch.device) -> None:
    scores = torch.randn(1, 1, 20, 20).to(device)
    clean = masked_softmax(scores, causal=True)
    scores[0, 0, 7, 5] = math.nan
    scores[0, 0, 8, 9] = math.nan  # masked by causal: no influence
    ours = masked_softmax(scores, causal=True)
    assert ours[0, 0, 7, :8].isnan().all()
    assert_all_zero(ours[0, 0, 7, 8:])
    others = torch.arange(20, device=device) != 7
    assert_same_bits(ours[:, :, others], clean[:, :, others])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_45_no_denormal_weights(dtype: torch.dtype, device: torch.device) -> None:
    limit = torch.finfo(dtype).tiny
    below = math.log(limit)
    scores = torch.linspace(below - 20, below + 20, 300, dtype=torch.float64).to(device, dtype)
    scores[150] = 0.0
    weights = masked_softmax(scores.view(1, 1, 1, -1))
    assert ((weights == 0) | (weights >= limit)).all()
    assert (weights == 0).any() and (weights > 0).sum() > 50
