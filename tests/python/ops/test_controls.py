"""The measuring tools measured: rules by hand, and wrong results that must be caught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import bounds, oracle
from support.accuracy import (
    assert_accurate,
    assert_all_zero,
    assert_attention_accurate,
    assert_same_bits,
)
from support.calls import CallCounter
from support.cases import DTYPES, make_inputs
from support.oracle import Masks
from torch import Tensor

import masked_attn


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "window", "expected"),
    [
        (3, 3, True, None, ["100", "110", "111"]),
        (2, 4, True, None, ["1110", "1111"]),
        (4, 2, True, None, ["00", "00", "10", "11"]),
        (4, 4, True, 2, ["1000", "1100", "0110", "0011"]),
        (4, 4, False, 2, ["1100", "1110", "0111", "0011"]),
        (2, 5, True, 1, ["00010", "00001"]),
        (2, 5, False, 1, ["00010", "00001"]),
        (3, 1, False, 2, ["0", "1", "1"]),
    ],
)
def test_visibility_by_hand(
    queries: int, keys: int, causal: bool, window: int | None, expected: list[str]
) -> None:
    seen = oracle.seen_by_position(queries, keys, causal, window)
    assert ["".join("01"[int(x)] for x in row) for row in seen] == expected


def test_oracle_softmax_by_hand() -> None:
    scores = torch.tensor([0.0, np.log(3.0), 5.0]).view(1, 1, 1, 3)
    masks = Masks(key_mask=torch.tensor([[True, True, False]]))
    np.testing.assert_allclose(oracle.softmax(scores, masks)[0, 0, 0], [0.25, 0.75, 0], rtol=1e-7)


MUTATIONS: dict[str, Callable[[Masks], Masks]] = {
    "mask dropped": lambda m: Masks(causal=m.causal),
    "causal dropped": lambda m: Masks(key_mask=m.key_mask),
    "key start off by one": lambda m: Masks(key_mask=m.key_mask.roll(1, 1), causal=True),  # type: ignore[union-attr]
    "diagonal dropped": lambda m: Masks(m.key_mask, torch.ones(20, 20).tril(-1).bool(), True),
    "one key too far back": lambda m: Masks(m.key_mask, causal=True, window=10),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MUTATIONS)
def test_mutated_masks_are_rejected(name: str, dtype: torch.dtype) -> None:
    inputs = make_inputs(queries=20, keys=20, padding="left", causal=True, dtype=dtype)
    right, _ = oracle.attention(*inputs.tensors(), inputs.masks)
    ours = torch.from_numpy(right.astype(np.float64)).to(dtype)
    assert_attention_accurate(ours, None, *inputs.tensors(), inputs.masks)
    wrong, _ = oracle.attention(*inputs.tensors(), MUTATIONS[name](inputs.masks))
    mutated = torch.from_numpy(wrong.astype(np.float64)).to(dtype)
    with pytest.raises(AssertionError):
        assert_attention_accurate(mutated, None, *inputs.tensors(), inputs.masks)


def test_hidden_nan_and_inf_are_rejected() -> None:
    truth = np.array([1.0, np.nan, np.inf])
    bound = np.zeros(3)
    for wrong in ([1.0, 2.0, np.inf], [np.nan, np.nan, np.inf], [1.0, np.nan, -np.inf]):
        with pytest.raises(AssertionError, match="pattern differs"):
            assert_accurate(torch.tensor(wrong), truth, bound)
    assert_accurate(torch.tensor([1.0, np.nan, np.inf]), truth, bound)
    with pytest.raises(AssertionError, match="error"):
        assert_accurate(torch.tensor([1.5, np.nan, np.inf]), truth, np.full(3, np.nan))


def test_small_errors_are_rejected() -> None:
    """Each bound lets the rounded truth pass, and nothing that is a millionth off."""
    inputs, scores = make_inputs(queries=9, keys=40, dims=(16, 16)), torch.randn(1, 2, 9, 40)
    x, matrix = torch.randn(9, 40), torch.rand(7, 40)
    query, key, value = inputs.tensors()
    attention = query, key, value.abs(), Masks(), None
    products = oracle.to_numpy(x.abs()) @ oracle.to_numpy(matrix).T
    for truth, bound in (
        (oracle.attention(*attention)[0], bounds.attention(*attention)[0]),
        (oracle.softmax(scores, Masks()), bounds.softmax(scores, Masks(), 1.0)),
        (products, bounds.linear(x.abs(), matrix, None)),
    ):
        right = torch.from_numpy(truth)
        assert_accurate(right.float(), truth, bound)
        with pytest.raises(AssertionError, match="error"):
            assert_accurate((right * (1 + 2e-6)).float(), truth, bound)


@pytest.mark.parametrize("rounded", ["query", "weights", "total"])
def test_float32_with_a_step_in_bfloat16_is_rejected(rounded: str) -> None:
    """A kernel that computes one of its steps in fewer bits than it says."""
    inputs = make_inputs(queries=9, keys=300, dims=(64, 64), padding="left")
    query, key, value = (t.double() for t in inputs.tensors())

    def keep(name: str, tensor: Tensor) -> Tensor:
        return tensor.bfloat16().double() if name == rounded else tensor

    mask = inputs.masks.key_mask
    assert mask is not None
    scores = keep("query", query) @ key.transpose(2, 3) / 8
    exps = (scores - scores.amax(-1, keepdim=True)).exp() * mask[:, None, None]
    out = keep("weights", exps) @ value / keep("total", exps.sum(-1, keepdim=True))
    with pytest.raises(AssertionError, match="error"):
        assert_attention_accurate(out.float(), None, *inputs.tensors(), inputs.masks)


def test_scores_that_decide_nothing_widen_no_bound() -> None:
    """A bias of -1e9 is off by 60 in float32, and its key is not seen all the same."""
    inputs = make_inputs(queries=9, keys=40)
    plain, _ = bounds.attention(*inputs.tensors(), Masks(), None)
    bias = torch.zeros(40)
    bias[20:] = -1e9
    seen = bounds.attention(*inputs.tensors(), Masks(attn_mask=bias), None)[0]
    assert seen.max() < 4 * plain.max()


def test_a_rounding_that_decides_which_key_wins_may_do_so() -> None:
    """Scores of 1e9 that are as good as equal: either value is right, and nothing beyond them."""
    query = torch.full((1, 1, 1, 1), 3e4)
    key = torch.tensor([3e4, 3e4 * (1 + 2e-7)]).view(1, 1, 2, 1)
    value = torch.tensor([1.0, 2.0]).view(1, 1, 2, 1)
    results = {out: torch.full((1, 1, 1, 1), out) for out in (1.0, 1.5, 2.0, 3.5)}
    for out in (1.0, 1.5, 2.0):
        assert_attention_accurate(results[out], None, query, key, value, Masks(), 1.0)
    with pytest.raises(AssertionError, match="error"):
        assert_attention_accurate(results[3.5], None, query, key, value, Masks(), 1.0)


def test_bit_comparison_sees_one_bit_and_the_sign_of_zero() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        one = torch.ones(3, dtype=dtype)
        next_one = torch.tensor([1, 1, 1 + torch.finfo(dtype).eps], dtype=dtype)
        with pytest.raises(AssertionError, match="differ in bits"):
            assert_same_bits(next_one, one)
        with pytest.raises(AssertionError, match="differ in bits"):
            assert_same_bits(torch.zeros(3, dtype=dtype), -torch.zeros(3, dtype=dtype))
        assert_same_bits(one * float("nan"), one * float("nan"))
    with pytest.raises(AssertionError):
        assert_same_bits(torch.ones(3), torch.ones(3).double())
    with pytest.raises(AssertionError):
        assert_same_bits(torch.ones(3), torch.ones(1, 3))


def test_tiny_is_not_zero() -> None:
    with pytest.raises(AssertionError, match="not exactly 0"):
        assert_all_zero(torch.tensor([0.0, 1e-45]))


def test_calls_are_counted() -> None:
    x = torch.ones(1, 1, 2, 4)
    with CallCounter() as calls:
        masked_attn.masked_attention(x, x, x)
        masked_attn.masked_attention(x, x, x, return_logsumexp=True)
        masked_attn.masked_softmax(x)
        masked_attn.cached_attention(
            x, x, x, torch.zeros(1, 1, 4, 4), x.repeat(1, 1, 2, 1), position=0
        )
    assert calls["masked_attention"] == 2
    assert calls["masked_softmax"] == 1
    assert calls["cached_attention"] == 1
    assert calls["expand_mask"] == 0
