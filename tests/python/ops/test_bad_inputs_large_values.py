"""#63: values near the largest finite number. A mean of them is finite, whatever their sum is.

Multiplying by a power of two changes no bit of a mean, so the result for ordinary values says every
bit of the result for large ones; the oracle (float64, longdouble for float64) says that both are
right.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support import oracle
from support.accuracy import assert_attention_accurate, assert_same_bits
from support.cached import make_step
from support.cases import Inputs, case_id, make_inputs, rotate
from support.devices import DEVICES_AND_THREADS
from support.oracle import Masks
from support.padding import make_row, padded, real_part

from masked_attn import masked_attention, merge_attention, packed_attention

F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
# Of queries and of keys and values. float16 holds no number that could leave float32.
DTYPES = ((F32, F32), (F64, F64), (BF16, BF16), (F32, BF16), (F32, F16), (F16, F16))
EXPONENTS = {F32: 127, BF16: 127, F64: 1023, F16: 15}


def grow(value: torch.Tensor) -> torch.Tensor:
    """Values of up to 1 become values of up to half the largest number, by a power of two."""
    return torch.ldexp(value, torch.tensor(EXPONENTS[value.dtype], device=value.device))


def below_one(inputs: Inputs) -> Inputs:
    value = inputs.value.clamp(-0.99, 0.99)
    return Inputs(inputs.query, inputs.key, value, inputs.masks)


def both(inputs: Inputs, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    out, logsumexp = inputs.call(masked_attention, return_logsumexp=True, **changes)
    return out, logsumexp


def assert_scales(inputs: Inputs) -> torch.Tensor:
    """Large values against the oracle and, by the bit, against values of ordinary size."""
    large = Inputs(inputs.query, inputs.key, grow(inputs.value), inputs.masks)
    ordinary, logsumexp = both(inputs)
    out, large_logsumexp = both(large)
    assert out.isfinite().all()
    assert_attention_accurate(out, large_logsumexp, *large.tensors(), large.masks)
    assert_same_bits(large_logsumexp, logsumexp, "logsumexp")
    if inputs.value.dtype != F16 or inputs.query.dtype == F32:
        exponent = torch.tensor(EXPONENTS[inputs.value.dtype], device=out.device)
        assert_same_bits(out, torch.ldexp(ordinary, exponent), "output")
    return out


@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("queries", [1, 3, 9, 70])
def test_63_equal_scores(
    queries: int, sign: int, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device
) -> None:
    """The example: four keys of equal scores with values of 1e38 give 1e38, and so do more."""
    dtype, kv_dtype = dtypes
    largest = min(torch.finfo(dtype).max, torch.finfo(kv_dtype).max)
    for size in (largest, largest * 0.3):
        for keys in (4, 8, 9, 64, 300, 700):
            query = torch.zeros(1, 2, queries, 16, dtype=dtype, device=device)
            key = torch.randn(1, 2, keys, 16).to(device, kv_dtype)
            value = torch.full((1, 2, keys, 16), sign * size, dtype=kv_dtype, device=device)
            out = masked_attention(query, key, value)
            assert out.isfinite().all()
            eps = torch.finfo(F64 if dtype == F64 else F32).eps
            expected = value[:, :, :1].double().expand_as(out)
            assert torch.allclose(out.double(), expected, rtol=16 * eps, atol=0)


CASES = rotate(
    90,
    seed=63,
    queries=(1, 1, 1, 2, 8, 9, 50, 100),
    keys=(2, 8, 9, 64, 65, 257, 300, 600, 1100),
    dtypes=DTYPES[:5],
    heads=((2, 2), (4, 2), (3, 1)),
    padding=("none", "left", "right", "both", "holes", "empty_row"),
    attn=("none", "none", "bool", "float32"),
    causal=(False, True),
    window=(None, None, 40),
    dims=((16, 16), (64, 64), (7, 33)),
)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_63_large_values_scale(case: dict[str, Any], device: torch.device) -> None:
    dtype, kv_dtype = case.pop("dtypes")
    inputs = below_one(make_inputs(**case, dtype=dtype, kv_dtype=kv_dtype, device=device))
    assert_scales(inputs)


@pytest.mark.parametrize("queries", [1, 2, 9, 70])
@pytest.mark.parametrize("keys", [8, 40, 600])
def test_63_columns_of_ordinary_values_keep_their_bits(
    keys: int, queries: int, device: torch.device
) -> None:
    """Only what left the range is mended: tiny values beside large ones lose nothing."""
    inputs = below_one(make_inputs(queries=queries, keys=keys, device=device))
    inputs.value[..., 8:] *= 2.0**-120
    expected = both(inputs)[0]
    inputs.value[..., :8] = grow(inputs.value[..., :8].abs() + 0.5)
    out = both(inputs)[0]
    assert out.isfinite().all()
    assert_same_bits(out[..., 8:], expected[..., 8:])
    truth, _ = oracle.attention(*inputs.tensors(), inputs.masks)
    large = out[..., :8].numpy(force=True)
    assert np.allclose(large, truth[..., :8], rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtypes", DTYPES[:4], ids=str)
@pytest.mark.parametrize(("device", "threads"), DEVICES_AND_THREADS, indirect=["device"])
def test_63_padded_equals_alone(
    threads: int, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device
) -> None:
    dtype, kv_dtype = dtypes
    for queries, length in ((1, 30), (1, 700), (2, 300), (9, 65), (70, 70), (5, 5)):
        row = make_row(length, queries=queries, heads=(4, 2), dtype=dtype, device=device)
        row.key = row.key.to(kv_dtype)
        row.value = grow(row.value.to(kv_dtype).clamp(-0.99, 0.99).abs() / 2 + 0.5)
        torch.set_num_threads(1)
        alone = both(row.inputs(causal=True))
        assert alone[0].isfinite().all()
        torch.set_num_threads(threads)
        for left, right in ((0, 0), (3, 0), (65, 0), (300, 0), *(((5, 7),) if queries > 5 else ())):
            right = right if queries == length else 0
            ours = both(padded(row, left, right, causal=True))
            for mine, expected in zip(ours, alone, strict=True):
                mine = mine if mine.dim() == 4 else mine[..., None]
                expected = expected if expected.dim() == 4 else expected[..., None]
                assert_same_bits(real_part(mine, row, left), expected)


@pytest.mark.parametrize("dtypes", [pair for pair in DTYPES if pair[0] == pair[1]], ids=str)
def test_63_packed(dtypes: tuple[torch.dtype, torch.dtype], device: torch.device) -> None:
    sizes = [(1, 600), (1, 20), (9, 30), (5, 5), (60, 300), (2, 8)]
    rows = [
        make_row(keys, queries=queries, heads=(4, 2), dtype=dtypes[0], device=device, seed=n)
        for n, (queries, keys) in enumerate(sizes)
    ]
    for row in rows:
        row.value = grow(row.value.clamp(-0.99, 0.99))
    tensors: Any = (
        torch.cat([getattr(row, name)[0].transpose(0, 1) for row in rows])
        for name in ("query", "key", "value")
    )
    starts, key_starts = (
        torch.tensor([0, *column], device=device).cumsum(0) for column in zip(*sizes, strict=True)
    )
    options: dict[str, Any] = {
        "cu_seqlens": starts,
        "max_seqlen": 60,
        "cu_seqlens_k": key_starts,
        "max_seqlen_k": 600,
        "causal": True,
    }
    out: torch.Tensor = packed_attention(*tensors, **options)
    assert out.isfinite().all()
    for row, mine in zip(rows, out.split([queries for queries, _ in sizes]), strict=True):
        mine = mine.transpose(0, 1)[None]
        masks = Masks(causal=True)
        assert_attention_accurate(mine, None, row.query, row.key, row.value, masks)
        assert_same_bits(mine, both(row.inputs(causal=True))[0])


@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
@pytest.mark.parametrize("position", [3, 7, 20, 300, 900])
@pytest.mark.parametrize("queries", [1, 4, 12])
def test_63_cached(
    queries: int, position: int, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device
) -> None:
    step = make_step(
        queries=queries,
        position=position,
        heads=(4, 2),
        dtype=dtypes[0],
        cache_dtype=dtypes[1],
        device=device,
    )
    exponent = min(EXPONENTS[dtype] for dtype in dtypes)
    size = torch.tensor(exponent, device=device)
    for values in (step.value_cache[:, :, :position], step.new_value):
        values.copy_(torch.ldexp(values.clamp(-0.99, 0.99).abs(), size))
    key_cache, value_cache = step.written()
    on_device = step.clone()
    out = step.call()
    assert out.isfinite().all()
    seen = key_cache[:, :, : step.end], value_cache[:, :, : step.end]
    assert_attention_accurate(out, None, step.query, *seen, Masks(causal=True))
    assert_same_bits(on_device.call_device(), out, "position on the device")


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("queries", "keys"), [(1, 8), (1, 40), (1, 700), (3, 70), (70, 131)])
def test_63_garbage_shows_where_it_is_seen_only(
    queries: int, keys: int, garbage: float, device: torch.device
) -> None:
    inputs = below_one(make_inputs(queries=queries, keys=keys, padding="both", device=device))
    mask = inputs.masks.key_mask
    assert mask is not None
    inputs.value = grow(inputs.value.abs() / 2 + 0.49)
    clean = both(inputs)[0]
    assert clean.isfinite().all()
    hidden = ~mask[:, None, :, None]
    unseen = Inputs(
        inputs.query, inputs.key, inputs.value.masked_fill(hidden, garbage), Masks(mask)
    )
    assert_same_bits(both(unseen)[0], clean)
    unseen.value[0, 0, int(mask[0].nonzero()[0]), 3] = garbage
    out = both(unseen)[0]
    truth, _ = oracle.attention(*unseen.tensors(), unseen.masks)
    assert_attention_accurate(out, None, *unseen.tensors(), unseen.masks)
    assert np.isnan(truth[0, 0, :, 3]).all() or np.isinf(truth[0, 0, :, 3]).all()


def test_63_scores_that_are_not_finite_still_show(device: torch.device) -> None:
    for queries in (1, 9):
        inputs = make_inputs(queries=queries, keys=300, device=device)
        inputs.value = grow(inputs.value.clamp(0.5, 0.99))
        inputs.key[0, 0, 7, 0] = math.nan
        out = both(inputs)[0]
        assert out[0, 0].isnan().all()
        assert out[0, 1].isfinite().all() and out[1].isfinite().all()


def test_63_merged_parts(device: torch.device) -> None:
    """Shares that add up to a little more than 1 must not leave the range."""
    for dtype in (F32, F64):
        largest = torch.finfo(dtype).max
        for sign in (1, -1):
            for parts in range(1, 30):
                outs = [
                    torch.full((1, 1, 1, 2), sign * largest, dtype=dtype, device=device)
                ] * parts
                sums = list(torch.rand(parts, 1, 1, 1, dtype=dtype, device=device))
                merged = merge_attention(outs, sums)
                assert merged.isfinite().all(), parts
                assert torch.allclose(merged / 2, outs[0] / 2)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_63_merged_parts_that_are_not_finite_show(value: float, device: torch.device) -> None:
    outs = [torch.full((1, 1, 1, 2), x, device=device) for x in (value, 1.0)]
    sums = [torch.zeros(1, 1, 1, device=device)] * 2
    assert_same_bits(merge_attention(outs, sums), outs[0])
    hidden = [torch.full((1, 1, 1), -math.inf, device=device), sums[0]]
    assert_same_bits(merge_attention(outs, hidden), outs[1])
