"""Promises 17 and 20 to 22: sizes of zero, wide heads, more than 2**31 elements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import oracle
from support.accuracy import assert_attention_accurate, assert_same_bits
from support.cached import Step, make_step
from support.cases import DTYPES, case_id, make_inputs
from support.devices import CUDA, MAX_CUDA_HEAD_DIM
from support.errors import says
from support.oracle import Masks
from torch import Tensor

from masked_attn import expand_mask, linear, masked_attention, masked_softmax

EMPTY = (
    {"batch": 0},
    {"heads": (0, 0)},
    {"queries": 0},
    {"keys": 0},
    {"dims": (0, 16)},
    {"dims": (16, 0)},
    {"dims": (0, 0)},
    {"queries": 0, "keys": 0},
    {"batch": 0, "heads": (0, 0), "queries": 0, "keys": 0, "dims": (0, 0)},
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("empty", EMPTY, ids=case_id)
def test_20_21_empty_sizes(
    empty: dict[str, Any], padding: str, dtype: torch.dtype, device: torch.device
) -> None:
    for queries in (2, 20):
        sizes: dict[str, Any] = {"queries": queries, "keys": 20, **empty}
        inputs = make_inputs(**sizes, padding=padding, dtype=dtype, causal=True, device=device)
        out, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
        truth, truth_logsumexp = oracle.attention(*inputs.tensors(), inputs.masks)
        assert out.dtype == dtype and out.shape == truth.shape
        assert logsumexp.shape == truth_logsumexp.shape
        assert_attention_accurate(out, logsumexp, *inputs.tensors(), inputs.masks)
        if sizes["keys"] == 0:
            assert_same_bits(out, torch.zeros_like(out))
            assert (logsumexp == -math.inf).all()


@pytest.mark.parametrize(
    "shape", [(0, 1, 2, 3), (1, 0, 2, 3), (1, 1, 0, 3), (1, 1, 2, 0), (0, 0, 0, 0)]
)
def test_20_21_empty_scores(shape: tuple[int, ...], device: torch.device) -> None:
    mask = torch.ones(shape[0], shape[3], dtype=torch.bool, device=device)
    scores = torch.ones(shape, device=device)
    assert masked_softmax(scores, key_mask=mask, causal=True).shape == shape


def test_17_wide_heads_beside_many_keys() -> None:
    """On the CPU head sizes beyond 256 run too, with the same accuracy."""
    for queries in (2, 70):
        inputs = make_inputs(queries=queries, keys=140, dims=(320, 288), padding="left")
        out = inputs.call(masked_attention)
        masks = Masks(key_mask=inputs.masks.key_mask)
        assert_attention_accurate(out, None, *inputs.tensors(), masks)


@pytest.mark.cuda
@pytest.mark.parametrize("dims", [(257, 16), (16, 257), (320, 288)], ids=str)
def test_17_wide_heads_are_an_error_on_cuda(dims: tuple[int, int]) -> None:
    """Never silently something else, and before a cache is written."""
    sizes = [str(MAX_CUDA_HEAD_DIM), *(str(dim) for dim in dims)]
    for queries in (2, 70):
        inputs = make_inputs(queries=queries, keys=70, dims=dims, device=CUDA)
        for logsumexp in (False, True):
            with says("masked_attention", *sizes):
                inputs.call(masked_attention, return_logsumexp=logsumexp)
        step = make_step(queries=queries, dims=dims, device=CUDA)
        before = step.clone()
        for call in (step.call, step.call_device):
            with says("cached_attention", *sizes):
                call()
        assert_same_bits(step.key_cache, before.key_cache)
        assert_same_bits(step.value_cache, before.value_cache)


def far_apart(small: Tensor) -> Tensor:
    """A copy whose queries or keys lie 2**24 elements apart, so that the last is beyond 2**31."""
    stride = 2**24 + 8
    buffer = huge(small.shape[2] * stride, small.dtype, small.device)
    return buffer.as_strided(small.shape, (0, 0, stride, 1)).copy_(small)


@pytest.mark.parametrize("queries", [1, 20])
def test_22_keys_and_values_beyond_2_31_elements(queries: int, device: torch.device) -> None:
    inputs = make_inputs(
        batch=1,
        heads=(1, 1),
        queries=queries,
        keys=130,
        dtype=torch.float16,
        causal=True,
        device=device,
    )
    expected = inputs.call(masked_attention)
    inputs.key = far_apart(inputs.key)
    assert_same_bits(inputs.call(masked_attention), expected, "key")
    inputs.value = far_apart(inputs.value)
    assert_same_bits(inputs.call(masked_attention), expected, "value")


@pytest.mark.parametrize("queries", [1, 20])
def test_22_caches_beyond_2_31_elements(queries: int, device: torch.device) -> None:
    step = make_step(
        batch=1,
        heads=(1, 1),
        queries=queries,
        position=130 - queries,
        capacity=130,
        dtype=torch.float16,
        device=device,
    )
    large = Step(*step.tensors()[:3], *map(far_apart, step.tensors()[3:]), step.position, Masks())
    assert_same_bits(large.call(), step.call())
    assert_same_bits(large.key_cache, step.key_cache)
    assert_same_bits(large.value_cache, step.value_cache)


def test_22_scores_and_masks_beyond_2_31_elements(device: torch.device) -> None:
    scores = torch.randn(1, 1, 130, 70).to(device, torch.float16)
    mask = (torch.rand(1, 1, 130, 70) < 0.5).to(device)
    bias = torch.zeros_like(scores).masked_fill(~mask, -math.inf)
    expected = masked_softmax(scores, attn_mask=mask)
    assert_same_bits(masked_softmax(far_apart(scores), attn_mask=mask), expected)
    assert_same_bits(masked_softmax(scores, attn_mask=far_apart(mask)), expected)
    inputs = make_inputs(batch=1, queries=130, keys=70, device=device)
    for small in (mask, bias):
        ours = inputs.call(masked_attention, attn_mask=far_apart(small))
        assert_same_bits(ours, inputs.call(masked_attention, attn_mask=small))


@pytest.mark.parametrize("transposed", [False, True])
def test_22_weights_beyond_2_31_elements(transposed: bool, device: torch.device) -> None:
    weight = torch.randn(130, 130).to(device, torch.float16)
    large = far_apart(weight[None, None])[0, 0]
    for rows in (3, 140):
        x = torch.randn(rows, 130).to(device, torch.float16)
        expected = linear(x, weight, transposed=transposed)
        assert_same_bits(linear(x, large, transposed=transposed), expected)


def test_22_rows_beyond_2_31_elements(device: torch.device) -> None:
    """Of the input and of the multiplier."""
    x, factors = (torch.randn(130, 130).to(device, torch.float16) for _ in range(2))
    weight = torch.randn(130, 130).to(device, torch.float16)
    expected = linear(x, weight, multiplier=factors)
    far_x, far_factors = (far_apart(t[None, None])[0, 0] for t in (x, factors))
    assert_same_bits(linear(far_x, weight, multiplier=factors), expected)
    assert_same_bits(linear(x, weight, multiplier=far_factors), expected)


def test_22_results_beyond_2_31_elements(device: torch.device) -> None:
    """The last row of an expanded mask of 2**31 + elements (4.3 GB)."""
    need_memory(5.5, device)
    queries, keys = 2**15 + 1, 2**16
    mask = torch.ones(1, keys, dtype=torch.bool, device=device)
    mask[0, ::3] = False
    ours = expand_mask(mask, dtype=torch.float16, query_length=queries)
    row = expand_mask(mask, dtype=torch.float16, query_length=1)
    assert ours.numel() > 2**31
    for query in (0, 2**15 - 1, 2**15):
        assert_same_bits(ours[:, :, query : query + 1], row)


def need_memory(gigabytes: float, device: torch.device) -> None:
    free = free_gigabytes(device)
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes:.1f} GB on {device}, {free:.1f} GB are known to be free")


def free_gigabytes(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0] / 1e9
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1e6


def huge(numel: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An untouched buffer: of a CPU's memory it takes only the pages that are touched."""
    assert numel > 2**31
    need_memory(1.0 if device.type == "cpu" else numel * dtype.itemsize / 1e9 + 0.5, device)
    try:
        return torch.empty(numel, dtype=dtype, device=device)
    except RuntimeError as error:
        pytest.skip(f"no address space for {numel} elements: {error}")
