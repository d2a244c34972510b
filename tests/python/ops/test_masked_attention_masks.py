"""Every form of mask alone and in combination, on both sides of Q == K, against the oracle."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracle
from support.accuracy import assert_all_zero, assert_attention_accurate, assert_same_bits
from support.cases import DTYPES, KEY_MASKS, MASK_SHAPES, Inputs, case_id, make_inputs, rotate

from masked_attn import masked_attention, masked_softmax


def check(inputs: Inputs) -> None:
    out, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
    assert_attention_accurate(out, logsumexp, *inputs.tensors(), inputs.masks)


LENGTHS = (
    (1, 1),
    (1, 65),
    (5, 70),
    (8, 8),
    (9, 9),
    (17, 64),
    (65, 65),
    (70, 5),
    (66, 1),
    (40, 130),
)
COMBINATIONS = rotate(
    160,
    seed=7,
    dtype=DTYPES,
    batch=(1, 2, 3),
    heads=((1, 1), (2, 2), (4, 2)),
    lengths=LENGTHS,
    padding=KEY_MASKS,
    attn=("none", "bool", "float32", "own"),
    attn_shape=MASK_SHAPES,
    causal=(False, True),
    window=(None, None, 1, 2, 16, 63, 64, 200),
)


@pytest.mark.parametrize("row", COMBINATIONS, ids=case_id)
def test_combination(row: dict[str, Any], device: torch.device) -> None:
    row = dict(row)
    queries, keys = row.pop("lengths")
    attn = row.pop("attn")
    attn = str(row["dtype"]).removeprefix("torch.") if attn == "own" else attn
    check(make_inputs(**row, attn=attn, queries=queries, keys=keys, device=device))


@pytest.mark.parametrize("shape", MASK_SHAPES)
@pytest.mark.parametrize("kind", ["bool", *(str(d).removeprefix("torch.") for d in DTYPES)])
def test_12_broadcast_forms_equal_the_expanded_mask(
    kind: str, shape: str, device: torch.device
) -> None:
    for queries, keys in ((3, 70), (33, 33)):
        options = {"attn": kind, "attn_shape": shape, "device": device}
        inputs = make_inputs(heads=(4, 2), queries=queries, keys=keys, **options)
        check(inputs)
        mask = inputs.masks.attn_mask
        assert mask is not None
        full = mask.expand(2, 4, queries, keys).contiguous()
        assert_same_bits(
            inputs.call(masked_attention, attn_mask=full), inputs.call(masked_attention)
        )


@pytest.mark.parametrize(
    ("queries", "keys"), [(1, 9), (9, 1), (8, 100), (100, 8), (65, 64), (64, 65)]
)
def test_causal_is_aligned_bottom_right(queries: int, keys: int, device: torch.device) -> None:
    """The last query sees the last key, whatever Q and K are."""
    inputs = make_inputs(queries=queries, keys=keys, causal=True, device=device)
    check(inputs)
    spelled_out = torch.from_numpy(oracle.seen_by_position(queries, keys, causal=True)).to(device)
    torch.testing.assert_close(
        inputs.call(masked_attention),
        inputs.call(masked_attention, causal=False, attn_mask=spelled_out),
    )
    assert_all_zero(inputs.call(masked_attention)[:, :, : max(queries - keys, 0)])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 2, 7, 8, 9, 63, 64, 65, 1000])
def test_windows(window: int, causal: bool, device: torch.device) -> None:
    options = {"causal": causal, "window": window, "device": device}
    for queries, keys in ((130, 130), (4, 130), (130, 4)):
        check(make_inputs(batch=1, queries=queries, keys=keys, **options))
        check(make_inputs(queries=queries, keys=keys, padding="left", **options))


def test_11_true_means_visible_everywhere(device: torch.device) -> None:
    """Only key 0 may be seen: the result is value 0, not the mean of the others."""
    inputs = make_inputs(batch=1, heads=(1, 1), queries=2, keys=4, device=device)
    only_first = torch.tensor([True, False, False, False], device=device)
    first = inputs.value[:, :, :1].expand(1, 1, 2, 16)
    assert_same_bits(inputs.call(masked_attention, key_mask=only_first[None]), first)
    assert_same_bits(inputs.call(masked_attention, attn_mask=only_first.expand(2, 4)), first)
    weights = masked_softmax(torch.randn(1, 1, 2, 4).to(device), key_mask=only_first[None])
    assert_same_bits(weights, only_first.float().expand(1, 1, 2, 4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("first_live", [1, 63, 64, 65, 128, 200, 319])
@pytest.mark.parametrize("queries", [2, 40])
def test_02_masked_tiles_before_between_and_after(
    queries: int, first_live: int, dtype: torch.dtype, device: torch.device
) -> None:
    options = {"dtype": dtype, "device": device}
    inputs = make_inputs(batch=3, heads=(1, 1), queries=queries, keys=320, **options)
    mask = torch.zeros(3, 320, dtype=torch.bool, device=device)
    mask[0, first_live:] = True
    mask[1, : 320 - first_live] = True
    mask[2, 0] = mask[2, first_live] = True
    for name in ("key_mask", "attn_mask"):
        inputs.masks.key_mask = mask if name == "key_mask" else None
        inputs.masks.attn_mask = mask[:, None, None] if name == "attn_mask" else None
        check(inputs)


SMALL = st.integers(1, 20)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    queries=SMALL,
    keys=st.integers(1, 80),
    heads=st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    dims=st.tuples(SMALL, SMALL),
    dtype=st.sampled_from(DTYPES),
    visible=st.lists(st.booleans(), min_size=160, max_size=160),
    use_key_mask=st.booleans(),
    attn=st.sampled_from(["none", "bool", "float32", "float16"]),
    attn_shape=st.sampled_from(MASK_SHAPES),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 90),
    garbage=st.sampled_from([0.0, math.nan, math.inf]),
    seed=st.integers(0, 2**16),
)
def test_any_combination(
    device: torch.device, visible: list[bool], use_key_mask: bool, garbage: float, **options: Any
) -> None:
    """Any mask, and anything at all in keys and values that no query may see."""
    inputs = make_inputs(**options, device=device)
    if use_key_mask:
        mask = torch.tensor(visible, device=device).view(2, 80)[:, : options["keys"]].contiguous()
        inputs.masks.key_mask = mask
        for tensor in (inputs.key, inputs.value):
            tensor.masked_fill_(~mask[:, None, :, None], garbage)
    check(inputs)
