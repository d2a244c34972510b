"""The measuring tools measured: rules by hand, and wrong results that must be caught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import oracle
from support.accuracy import (
    assert_accurate,
    assert_all_zero,
    assert_attention_accurate,
    assert_same_bits,
)
from support.calls import CallCounter
from support.cases import DTYPES, make_inputs
from support.oracle import Masks

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
    eager = torch.tensor([1.0, 2.0, 3.0])
    for wrong in ([1.0, 2.0, np.inf], [np.nan, np.nan, np.inf], [1.0, np.nan, -np.inf]):
        with pytest.raises(AssertionError, match="pattern differs"):
            assert_accurate(torch.tensor(wrong), truth, eager)
    assert_accurate(torch.tensor([1.0, np.nan, np.inf]), truth, eager)


def test_small_errors_are_rejected() -> None:
    truth = np.linspace(0.5, 1.0, 50)
    right = torch.from_numpy(truth).float()
    assert_accurate(right, truth, right)
    with pytest.raises(AssertionError, match="error"):
        assert_accurate(right * (1 + 1e-6), truth, right)


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
