"""A row's result does not depend on its padding, its batch or the threads: equality of bits.

Padding holds NaN everywhere here, so a masked key that is read into any sum shows at once.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.accuracy import assert_all_zero, assert_same_bits
from support.cases import DTYPES, Inputs, case_id, make_inputs, rotate
from support.devices import DEVICES_AND_THREADS
from support.padding import Row, batch_of, make_row, pad, padded, real_part

from masked_attn import masked_attention, masked_softmax

LENGTHS = (1, 2, 5, 7, 8, 9, 10, 16, 31, 63, 64, 65, 127, 128, 129, 191, 255, 256, 257)
LONG = (511, 512, 513, 1023, 1024, 1025, 1100)
PADS = ((1, 0), (0, 1), (3, 0), (0, 3), (63, 0), (64, 0), (65, 0), (0, 64), (37, 90), (129, 1))


def both(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    out, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
    return out, logsumexp[..., None]


def assert_equals_alone(
    row: Row, left: int, right: int, causal: bool = False, window: int | None = None
) -> None:
    alone = both(row.inputs(causal, window))
    ours = both(padded(row, left, right, causal=causal, window=window))
    for name, mine, expected in zip(("output", "logsumexp"), ours, alone, strict=True):
        assert_same_bits(real_part(mine, row, left), expected, name)


SELF = rotate(
    110,
    seed=9,
    length=LENGTHS,
    pads=PADS,
    dtype=DTYPES,
    causal=(True, True, False),
    window=(None, None, 3, 64, 100),
    bias=(False, False, True),
    dims=((16, 16), (64, 64), (80, 33), (7, 128)),
)
SELF += rotate(
    14,
    seed=10,
    length=LONG,
    pads=PADS,
    dtype=DTYPES,
    causal=(True, True, False),
    window=(None, 600),
    bias=(False,),
    dims=((16, 16), (64, 64)),
)


@pytest.mark.parametrize("case", SELF, ids=case_id)
def test_32_prompt_padded_equals_alone(case: dict[str, Any], device: torch.device) -> None:
    options = {name: case[name] for name in ("dims", "dtype", "bias")}
    row = make_row(case["length"], **options, device=device)
    assert_equals_alone(row, *case["pads"], case["causal"], case["window"])


DECODE = rotate(
    100,
    seed=11,
    length=(*LENGTHS, *LONG, 2047, 2048, 2049, 4100),
    queries=(1, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    left=(1, 2, 9, 63, 64, 65, 300),
    dtype=DTYPES,
    causal=(True, False),
    window=(None, None, None, 70),
    dims=((16, 16), (64, 64), (33, 80)),
)


@pytest.mark.parametrize("case", DECODE, ids=case_id)
def test_32_few_queries_padded_equal_alone(case: dict[str, Any], device: torch.device) -> None:
    """Decoding: the queries are the last positions, the padding lies before the keys."""
    options = {name: case[name] for name in ("queries", "dims", "dtype")}
    row = make_row(case["length"], **options, device=device)
    assert_equals_alone(row, case["left"], 0, case["causal"], case["window"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", [1, 7, 8, 9, 64, 65, 513])
@pytest.mark.parametrize("queries", [3, 8, 9, 12, 70])
def test_32_other_queries_padded_on_both_sides(
    queries: int, length: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Few and many queries beside few and many keys: the path must not depend on the padding."""
    row = make_row(length, queries=queries, dtype=dtype, device=device)
    for left, right in PADS:
        assert_equals_alone(row, left, right)


def mixed_batch(
    causal: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Inputs, list[tuple[Row, int]]]:
    lengths = (1, 8, 9, 64, 65, 100, 129, 260, 300)
    rows = []
    for number, length in enumerate(lengths):
        left = (0, 300 - length, (300 - length) // 2)[number % 3]
        rows.append((make_row(length, dtype=dtype, device=device, seed=number), left))
    parts = [padded(row, left, 300 - left - row.key.shape[2], causal=causal) for row, left in rows]
    return batch_of(parts), rows


@pytest.mark.parametrize(("device", "threads"), DEVICES_AND_THREADS, indirect=["device"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_32_batch_equals_its_rows_alone(
    dtype: torch.dtype, causal: bool, threads: int, device: torch.device
) -> None:
    batch, rows = mixed_batch(causal, dtype, device)
    torch.set_num_threads(1)
    alone = [both(row.inputs(causal)) for row, _ in rows]
    torch.set_num_threads(threads)
    ours = both(batch)
    for number, (row, left) in enumerate(rows):
        for mine, expected in zip(ours, alone[number], strict=True):
            assert_same_bits(real_part(mine[number : number + 1], row, left), expected)


def test_32_order_of_the_batch_does_not_matter(device: torch.device) -> None:
    batch, _ = mixed_batch(True, torch.float32, device)
    order = torch.randperm(9).to(device)
    shuffled = Inputs(*(t[order] for t in batch.tensors()), batch.masks)
    expected = both(batch)
    assert batch.masks.key_mask is not None
    mask = batch.masks.key_mask[order]
    out, logsumexp = shuffled.call(masked_attention, key_mask=mask, return_logsumexp=True)
    assert_same_bits(out, expected[0][order])
    assert_same_bits(logsumexp, expected[1][order, ..., 0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 8, 9, 100])
def test_03_garbage_in_masked_keys_and_values(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    for padding, causal in (
        ("left", True),
        ("right", False),
        ("holes", True),
        ("empty_row", False),
    ):
        options = {"queries": queries, "padding": padding, "causal": causal}
        clean = make_inputs(batch=3, keys=150, **options, dtype=dtype, device=device)
        mask = clean.masks.key_mask
        assert mask is not None
        hidden = ~mask[:, None, :, None]
        zeroed = Inputs(
            clean.query,
            clean.key.masked_fill(hidden, 0),
            clean.value.masked_fill(hidden, 0),
            clean.masks,
        )
        expected = both(zeroed)
        for garbage in (math.nan, math.inf, -math.inf, torch.finfo(dtype).max):
            dirty = Inputs(
                clean.query,
                clean.key.masked_fill(hidden, garbage),
                clean.value.masked_fill(hidden, garbage),
                clean.masks,
            )
            for mine, wanted in zip(both(dirty), expected, strict=True):
                assert_same_bits(mine, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", ["causal", "window", "bool", "float", "finfo_min"])
@pytest.mark.parametrize("queries", [4, 8, 70])
def test_03_garbage_that_only_some_queries_may_see(
    queries: int, form: str, dtype: torch.dtype, device: torch.device
) -> None:
    """NaN at key 40 of 70: queries that see it are NaN, all others are as if it were 0."""
    seen = torch.arange(queries)[:, None] + (70 - queries) >= torch.arange(70)
    if form in ("bool", "float", "finfo_min"):
        seen = torch.rand(queries, 70) < 0.6
    seen = seen.to(device)
    seen[:2, 40] = False
    fill = torch.finfo(dtype).min if form == "finfo_min" else -math.inf
    bias = torch.zeros(queries, 70, dtype=dtype, device=device).masked_fill(~seen, fill)
    mask = bias if form in ("float", "finfo_min") else seen
    window = 25 if form == "window" else None
    options = {"causal": form == "causal", "window": window}
    inputs = make_inputs(queries=queries, keys=70, **options, dtype=dtype, device=device)
    inputs.masks.attn_mask = mask
    positions = torch.arange(70 - queries, 70, device=device)
    touched = seen[:, 40] & ((positions < 65) | (window is None))
    for which in ("key", "value"):
        tensor = getattr(inputs, which)
        kept = tensor[:, :, 40].clone()
        tensor[:, :, 40] = 0
        expected = inputs.call(masked_attention)
        for garbage in (math.nan, math.inf):
            tensor[:, :, 40] = garbage
            out = inputs.call(masked_attention)
            assert_same_bits(out[:, :, ~touched], expected[:, :, ~touched], f"{which} {garbage}")
            assert not out[:, :, touched].isfinite().all(-1).any()
        tensor[:, :, 40] = kept


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [2, 60])
def test_32_row_with_holes_under_more_padding(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    holes = make_inputs(queries=queries, keys=60, dtype=dtype, padding="holes", device=device)
    mask = holes.masks.key_mask
    assert mask is not None
    mask[:, 0] = mask[:, -1] = True
    expected = both(holes)
    for left, right in PADS:
        more = Inputs(
            holes.query,
            pad(holes.key, 2, left, right, math.nan),
            pad(holes.value, 2, left, right, math.nan),
            holes.masks,
        )
        wide_mask = pad(mask, 1, left, right, False)
        out, logsumexp = more.call(masked_attention, key_mask=wide_mask, return_logsumexp=True)
        assert_same_bits(out, expected[0])
        assert_same_bits(logsumexp, expected[1][..., 0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 300])
def test_32_softmax_padded_equals_alone(
    length: int, dtype: torch.dtype, device: torch.device
) -> None:
    seen = torch.ones(1, length, dtype=torch.bool, device=device)
    for causal in (False, True):
        scores = torch.randn(1, 2, length, length).to(device, dtype)
        alone = masked_softmax(scores, causal=causal, scale=0.3)
        for left, right in PADS:
            wide = pad(pad(scores, 3, left, right, math.nan), 2, left, right, math.nan)
            mask = pad(seen, 1, left, right, False)
            ours = masked_softmax(wide, key_mask=mask, causal=causal, scale=0.3)
            ours = ours[:, :, left : left + length]
            assert_same_bits(ours[..., left : left + length], alone)
            assert_all_zero(ours[..., :left])
            assert_all_zero(ours[..., left + length :])


@pytest.mark.parametrize("queries", [1, 64])
def test_31_repeated_runs_are_equal(queries: int, device: torch.device) -> None:
    torch.set_num_threads(2)
    inputs = make_inputs(queries=queries, keys=130, padding="left", causal=True, device=device)
    scores = torch.randn(2, 2, queries, 130).to(device)
    first, weights = both(inputs), masked_softmax(scores, **inputs.masks.kwargs())
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(100):
            for mine, expected in zip(both(inputs), first, strict=True):
                assert_same_bits(mine, expected)
            assert_same_bits(masked_softmax(scores, **inputs.masks.kwargs()), weights)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 8, 9, 70])
def test_01_fully_masked_rows_are_exactly_zero(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    lowest = torch.finfo(dtype).min
    nothing = {
        "key_mask": torch.zeros(2, 70, dtype=torch.bool, device=device),
        "bool": torch.zeros(queries, 70, dtype=torch.bool, device=device),
        "-inf": torch.full((2, 1, 1, 70), -math.inf, device=device),
        "finfo.min": torch.full((1, 1, queries, 70), lowest, dtype=dtype, device=device),
    }
    inputs = make_inputs(queries=queries, keys=70, dtype=dtype, device=device)
    scores = torch.randn(2, 2, queries, 70).to(device, dtype)
    for name, mask in nothing.items():
        inputs.masks.key_mask = mask if name == "key_mask" else None
        inputs.masks.attn_mask = None if name == "key_mask" else mask
        out, logsumexp = both(inputs)
        assert_same_bits(out, torch.zeros_like(out), name)
        assert (logsumexp == -math.inf).all(), name
        weights = masked_softmax(scores, **inputs.masks.kwargs())
        assert_same_bits(weights, torch.zeros_like(weights), name)
