"""Promises 15, 24, 25, 35 to 38: numbers out of range, missing gradients, shared memory."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cached import Step, make_step
from support.cases import make_inputs
from support.errors import says

from masked_attn import cached_attention, expand_mask, masked_attention, masked_softmax


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_24_scale_that_is_not_finite(scale: float, device: torch.device) -> None:
    with says("masked_attention", "scale", str(scale)):
        make_inputs(device=device).call(masked_attention, scale=scale)
    with says("masked_softmax", "scale", str(scale)):
        masked_softmax(torch.ones(1, 1, 2, 2, device=device), scale=scale)
    step = make_step(device=device)
    before = step.clone()
    with says("cached_attention", "scale", str(scale)):
        step.call(scale=scale)
    assert_untouched(step, before)


@pytest.mark.parametrize("dropout_p", [0.1, 0.999, 1.0, 1.5, -0.1, math.nan])
def test_25_dropout_is_refused(dropout_p: float, device: torch.device) -> None:
    with says("masked_attention", "dropout_p"):
        make_inputs(device=device).call(masked_attention, dropout_p=dropout_p)
    with says("masked_attention", "dropout_p"):
        make_inputs(device=device).call(
            masked_attention, dropout_p=dropout_p, return_logsumexp=True
        )


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        (torch.float16, -1e5),
        (torch.float16, torch.finfo(torch.float32).min),
        (torch.float32, torch.finfo(torch.float64).min),
        (torch.float32, 1e39),
        (torch.bfloat16, -3.4e38),
    ],
)
def test_fill_that_overflows_the_dtype(
    dtype: torch.dtype, fill: float, device: torch.device
) -> None:
    """The message names the number to use instead."""
    limit = str(dtype).removeprefix("torch.")
    with says("expand_mask", "fill", "finfo", ".min", limit):
        expand_mask(torch.ones(1, 2, device=device), dtype=dtype, fill=fill)


def test_expand_mask_refuses_bool(device: torch.device) -> None:
    with says("expand_mask", "dtype", "bool"):
        expand_mask(torch.ones(1, 2, device=device), dtype=torch.bool)


def test_expand_mask_refuses_a_negative_length(device: torch.device) -> None:
    with says("expand_mask", "query_length", "-1"):
        expand_mask(torch.ones(1, 2, device=device), dtype=torch.float32, query_length=-1)


@pytest.mark.parametrize("name", ["query", "key", "value", "attn_mask"])
def test_15_inputs_that_require_grad(name: str, device: torch.device) -> None:
    """Until there is a gradient: an error, never a silent None."""
    inputs = make_inputs(attn="float32", device=device)
    target = inputs.masks.attn_mask if name == "attn_mask" else getattr(inputs, name)
    target.requires_grad_()
    for logsumexp in (False, True):
        with says("masked_attention", "no gradient yet"):
            inputs.call(masked_attention, return_logsumexp=logsumexp)
    with torch.no_grad():
        assert not inputs.call(masked_attention).requires_grad


@pytest.mark.parametrize("name", ["scores", "attn_mask"])
def test_15_softmax_inputs_that_require_grad(name: str, device: torch.device) -> None:
    shapes = {"scores": (1, 1, 3, 3), "attn_mask": (3, 3)}
    tensors = {name: torch.randn(shape, device=device) for name, shape in shapes.items()}
    tensors[name].requires_grad_()
    with says("masked_softmax", "no gradient yet"):
        masked_softmax(**tensors)
    with torch.no_grad():
        assert not masked_softmax(**tensors).requires_grad


@pytest.mark.parametrize("name", ["query", "new_key", "new_value", "key_cache", "value_cache"])
def test_38_cached_inputs_that_require_grad(name: str, device: torch.device) -> None:
    step = make_step(garbage=0.0, device=device)
    getattr(step, name).requires_grad_()
    before = step.clone()
    for call in (step.call, step.call_device):
        with says("cached_attention", "differentiable"):
            call()
    with torch.no_grad():
        assert_untouched(step, before)
        assert not step.call().requires_grad


def test_38_cached_mask_that_requires_grad(device: torch.device) -> None:
    step = make_step(device=device)
    mask = torch.zeros(1, 1, 1, 21, device=device, requires_grad=True)
    with says("cached_attention", "differentiable"):
        step.call(attn_mask=mask)


def test_38_caches_made_in_inference_mode_and_written_outside(device: torch.device) -> None:
    """Refused, as by torch's own in-place operators: an inference tensor counts no versions."""
    with torch.inference_mode():
        step = make_step(device=device)
        before = step.clone()
    with says("cached_attention", "key_cache", "inference"):
        step.call()
    with torch.inference_mode():
        assert_untouched(step, before)
        assert_same_bits(step.call(), before.call())


def assert_untouched(step: Step, before: Step) -> None:
    assert_same_bits(step.key_cache, before.key_cache)
    assert_same_bits(step.value_cache, before.value_cache)


@pytest.mark.parametrize(
    ("position", "queries"), [(32, 1), (31, 2), (0, 33), (25, 8), (2**40, 1), (2**63 - 1, 1)]
)
def test_35_a_write_past_the_capacity(position: int, queries: int, device: torch.device) -> None:
    options = {"queries": queries, "position": 5, "capacity": queries + 32}
    step = make_step(**options, garbage=0.5, device=device)
    step.key_cache, step.value_cache = step.key_cache[:, :, :32], step.value_cache[:, :, :32]
    before = step.clone()
    with says("cached_attention", "position", str(position), "capacity", "32"):
        step.call(position=position)
    assert_untouched(step, before)


def test_35_more_queries_than_capacity_with_the_position_on_the_device(
    device: torch.device,
) -> None:
    step = make_step(queries=33, position=0, capacity=33, garbage=0.5, device=device)
    step.key_cache, step.value_cache = step.key_cache[:, :, :32], step.value_cache[:, :, :32]
    before = step.clone()
    with says("cached_attention", "capacity", "33", "32"):
        step.call_device()
    assert_untouched(step, before)


@pytest.mark.parametrize("position", [-1, -20, -(2**40)])
def test_36_negative_position(position: int, device: torch.device) -> None:
    step = make_step(device=device)
    before = step.clone()
    with says("cached_attention", "position", str(position)):
        step.call(position=position)
    assert_untouched(step, before)


@pytest.mark.parametrize(
    ("position", "found"),
    [
        (torch.tensor(20, dtype=torch.int32), "int32"),
        (torch.tensor(20.0), "float32"),
        (torch.tensor([20, 20]), "[2]"),
        (torch.tensor(20, device="meta"), "meta"),
    ],
    ids=["int32", "float32", "two", "meta"],
)
def test_36_position_tensor_of_another_kind(
    position: torch.Tensor, found: str, device: torch.device
) -> None:
    step = make_step(device=device)
    before = step.clone()
    if not position.is_meta:
        position = position.to(device)
    with says("cached_attention", "position", found):
        step.call(position=position)
    assert_untouched(step, before)


def test_36_a_smaller_position_overwrites(device: torch.device) -> None:
    step = make_step(position=20, device=device)
    step.call()
    step.position = 3
    written = step.written()
    step.call()
    assert_same_bits(step.key_cache, written[0])


def alias_of(kind: str, step: Step) -> None:
    """Makes two tensors of the step share memory."""
    end = step.end
    if kind == "one cache for both":
        step.value_cache = step.key_cache
    elif kind == "value cache shifted in the key cache":
        flat = step.key_cache.new_zeros(step.key_cache.numel() + 16)
        step.key_cache = flat[:-16].view(step.key_cache.shape)
        step.value_cache = flat[16:].view(step.key_cache.shape)
    elif kind == "new key in the key cache":
        step.new_key = step.key_cache[:, :, step.position : end]
    elif kind == "new value in the key cache":
        step.new_value = step.key_cache[:, :, :1]
    elif kind == "query in the value cache":
        step.query = step.value_cache[:, :, step.position : end]
    elif kind == "expanded key cache":
        step.key_cache = step.key_cache[:1].expand_as(step.key_cache)
    else:
        assert kind == "expanded value cache", kind
        step.value_cache = step.value_cache[:, :, :1].expand_as(step.value_cache)


@pytest.mark.parametrize(
    "kind",
    [
        "one cache for both",
        "value cache shifted in the key cache",
        "new key in the key cache",
        "new value in the key cache",
        "query in the value cache",
        "expanded key cache",
        "expanded value cache",
    ],
)
def test_37_caches_that_share_memory(kind: str, device: torch.device) -> None:
    step = make_step(garbage=0.5, device=device)
    alias_of(kind, step)
    before = step.key_cache.clone(), step.value_cache.clone()
    for call in (step.call, step.call_device):
        with says("cached_attention", "cache"):
            call()
    assert_same_bits(step.key_cache, before[0])
    assert_same_bits(step.value_cache, before[1])


def test_37_caches_side_by_side_in_one_buffer(device: torch.device) -> None:
    """Views of one storage that do not overlap are fine."""
    step = make_step(device=device)
    expected = step.clone().call()
    both = torch.stack([step.key_cache, step.value_cache])
    step.key_cache, step.value_cache = both[0], both[1]
    assert_same_bits(step.call(), expected)


def test_24_a_scale_that_overflows_the_sums_raises(device: torch.device) -> None:
    query = torch.ones(1, 1, 2, 4, device=device)
    scores = torch.zeros(1, 1, 1, 4, device=device)
    with says("masked_attention", "scale", "float32"):
        masked_attention(query, query, query, scale=1e300)
    with says("masked_softmax", "scale", "float32"):
        masked_softmax(scores, scale=1e300)
    assert masked_softmax(scores.double(), scale=1e300).sum() == 1


@pytest.mark.parametrize("strides", [(64, 64, 4, 1), (64, 32, 8, 1)], ids=str)
def test_37_a_cache_that_overlaps_itself_without_a_stride_of_zero(
    strides: tuple[int, ...], device: torch.device
) -> None:
    cache = torch.zeros(1000, device=device).as_strided((1, 2, 8, 8), strides)
    other, query = cache.contiguous(), torch.ones(1, 2, 1, 8, device=device)
    with says("cached_attention", "key_cache", "overlaps itself"):
        cached_attention(query, query, query, cache, other, position=0)


def test_out_of_memory_leaves_the_operators_usable() -> None:
    """The scratch memory that a thread keeps survives an allocation that fails."""
    code = """
import resource
import torch
import masked_attn
torch.set_num_threads(1)
query = torch.ones(1, 1, 100, 64)
masked_attn.masked_attention(query, query, query)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
scores = torch.zeros(1, 1, 1, 12_000_000)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 70_000_000, resource.RLIM_INFINITY))
try:
    masked_attn.masked_softmax(scores)
    raise SystemExit("the allocation did not fail")
except RuntimeError:
    pass
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
masked_attn.masked_attention(query, query, query)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
