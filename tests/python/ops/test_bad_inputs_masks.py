"""Promises 5 to 14 and 58 of the list of bad inputs: masks of the wrong kind, shape or value."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from support import oracle
from support.accuracy import assert_all_zero, assert_attention_accurate, assert_same_bits
from support.cached import make_step
from support.cases import DTYPES, key_mask, make_inputs
from support.errors import says

from masked_attn import expand_mask, masked_attention, masked_softmax

MASK_INTEGERS = (torch.int64, torch.int32, torch.uint8, torch.int8)


@pytest.mark.parametrize("mask_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [2, 33])
def test_05_06_masks_are_read_in_their_own_dtype(
    queries: int, dtype: torch.dtype, mask_dtype: torch.dtype, device: torch.device
) -> None:
    """Half of finfo.min of the mask's dtype and below is masked, the next value above is a bias."""
    lowest = torch.finfo(mask_dtype).min
    limit = torch.tensor(0.5 * lowest, dtype=mask_dtype)
    above = torch.nextafter(limit, torch.zeros((), dtype=mask_dtype)).item()
    inputs = make_inputs(queries=queries, keys=70, dtype=dtype, device=device)
    hidden = (torch.rand(queries, 70) < 0.4).to(device)
    expected = inputs.call(masked_attention, attn_mask=~hidden)
    for value in (-math.inf, lowest, 0.75 * lowest, limit.item()):
        zeros = torch.zeros(queries, 70, dtype=mask_dtype, device=device)
        ours = inputs.call(masked_attention, attn_mask=zeros.masked_fill(hidden, value))
        torch.testing.assert_close(ours, expected, msg=lambda m, v=value: f"{v}: {m}")
        mask = torch.full_like(zeros, value)
        assert_all_zero(inputs.call(masked_attention, attn_mask=mask))
    mask = torch.full((queries, 70), above, dtype=mask_dtype, device=device)
    biased = inputs.call(masked_attention, attn_mask=mask)
    assert biased.isfinite().all()
    # A bias that only float64 can hold is -inf to float32 sums; every other one is just a bias.
    if mask_dtype != torch.float64 or dtype == torch.float64:
        assert biased.count_nonzero(), "a bias, not a mask"


def test_05_float16_minimum_in_a_float32_mask_is_a_bias(device: torch.device) -> None:
    inputs = make_inputs(queries=4, keys=20, device=device)
    lowest = torch.finfo(torch.float16).min
    biased = torch.full((4, 20), lowest, device=device)
    assert inputs.call(masked_attention, attn_mask=biased).count_nonzero()
    as_half = biased.half()
    assert_all_zero(inputs.call(masked_attention, attn_mask=as_half))


@pytest.mark.parametrize("queries", [2, 33])
def test_07_two_minimum_masks_added(queries: int, device: torch.device) -> None:
    lowest = torch.full((queries, 70), torch.finfo(torch.float32).min, device=device)
    hidden = (torch.rand(queries, 70) < 0.5).to(device)
    hidden[0] = True
    twice = torch.where(hidden, lowest + lowest, 0.0)
    assert twice.isinf().any()
    inputs = make_inputs(queries=queries, keys=70, device=device)
    ours = inputs.call(masked_attention, attn_mask=twice)
    assert_same_bits(
        ours, inputs.call(masked_attention, attn_mask=torch.where(hidden, lowest, 0.0))
    )
    assert_all_zero(ours[:, :, 0])
    assert not ours.isnan().any()


@pytest.mark.parametrize("dtype", MASK_INTEGERS, ids=str)
@pytest.mark.parametrize("name", ["key_mask", "attn_mask"])
def test_08_integer_masks_are_refused_with_the_way_out(
    name: str, dtype: torch.dtype, device: torch.device
) -> None:
    shape = (2, 17) if name == "key_mask" else (17, 17)
    mask = torch.ones(shape, dtype=dtype, device=device)
    inputs = make_inputs(device=device)
    kind = str(dtype).removeprefix("torch.")
    with says("masked_attention", name, kind, ".bool()"):
        inputs.call(masked_attention, **{name: mask})
    with says("masked_softmax", name, kind, ".bool()"):
        masked_softmax(torch.ones(2, 2, 17, 17, device=device), **{name: mask})
    with says("masked_attention", "expand_mask"):
        inputs.call(masked_attention, **{name: mask})
    step = make_step(position=16, device=device)
    with says("cached_attention", name, kind, ".bool()"):
        step.call(**{name: mask if name == "key_mask" else mask[:1]})


def test_08_float_key_mask_is_refused(device: torch.device) -> None:
    mask = torch.ones(2, 17, device=device)
    with says("masked_attention", "key_mask", "float32", "bool"):
        make_inputs(device=device).call(masked_attention, key_mask=mask)
    with says("masked_softmax", "key_mask", "float32", "bool"):
        masked_softmax(torch.ones(2, 2, 17, 17, device=device), key_mask=mask)


def test_09_float_mask_of_zeros_and_ones_is_a_bias(device: torch.device) -> None:
    inputs = make_inputs(device=device)
    mask = (torch.rand(17, 17) < 0.5).float().to(device)
    ours = inputs.call(masked_attention, attn_mask=mask)
    inputs.masks.attn_mask = mask
    assert_attention_accurate(ours, None, *inputs.tensors(), inputs.masks)
    with pytest.warns(UserWarning, match=r"float mask of 0 and 1"):
        inputs.call(masked_attention, check=True)
    with pytest.warns(UserWarning, match=r"\.bool\(\)"):
        masked_softmax(torch.ones(1, 1, 17, 17, device=device), attn_mask=mask, check=True)
    with pytest.warns(UserWarning, match=r"float mask of 0 and 1"):
        make_step(position=16, device=device).call(attn_mask=mask[:1], check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs.call(masked_attention, attn_mask=mask - 1, check=True)
        inputs.call(masked_attention, attn_mask=mask.bool(), check=True)


def test_10_any_nonzero_number_keeps_a_key(device: torch.device) -> None:
    expected = torch.tensor([0.0, -math.inf, 0.0, 0.0]).view(1, 1, 1, 4)
    for mask in (
        torch.tensor([[2, 0, -1, 127]], dtype=torch.int8),
        torch.tensor([[256, 0, -256, 2**40]]),
        torch.tensor([[0.5, -0.0, -1.0, math.nan]]),
        torch.tensor([[1e-7, 0.0, 3.0, math.inf]], dtype=torch.float16),
    ):
        mask = mask.to(device)
        assert_same_bits(expand_mask(mask, dtype=torch.float32, query_length=1), expected)
        with pytest.raises(ValueError, match="expand_mask: mask must hold only 0 and 1, found"):
            expand_mask(mask, dtype=torch.float32, check=True)
    expand_mask(torch.tensor([[0, 1]], device=device), dtype=torch.float32, check=True)


def test_11_true_means_visible_in_every_docstring() -> None:
    for op in (masked_attention, masked_softmax):
        assert op.__doc__ is not None and "True = may be seen" in op.__doc__
    assert expand_mask.__doc__ is not None and 'nonzero means "may be seen"' in expand_mask.__doc__


@pytest.mark.parametrize(
    "shape",
    [(8, 1, 64), (8, 1, 1, 64), (64,), (8, 63), (8, 65), (64, 8), (1, 64), (8, 1), ()],
    ids=str,
)
def test_12_13_key_mask_of_another_shape(shape: tuple[int, ...], device: torch.device) -> None:
    """Exactly [batch, keys]: nothing is broadcast, nothing is sliced."""
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    inputs = make_inputs(batch=8, queries=4, keys=64, device=device)
    with says("masked_attention", "key_mask", "[batch, keys]", "[8, 64]", str(list(shape))):
        inputs.call(masked_attention, key_mask=mask)
    with says("masked_softmax", "key_mask", "[batch, keys]", "[8, 64]", str(list(shape))):
        masked_softmax(torch.ones(8, 2, 4, 64, device=device), key_mask=mask)
    with says("cached_attention", "key_mask", "[8, 64]", str(list(shape))):
        make_step(batch=8, position=60, queries=4, device=device).call(key_mask=mask)
    step = make_step(batch=8, position=60, queries=4, capacity=100, device=device)
    short = torch.ones(8, 64, dtype=torch.bool, device=device)
    with says("cached_attention", "key_mask", "[8, 100]", "[8, 64]"):
        step.call_device(key_mask=short)


@pytest.mark.parametrize(
    "shape",
    [
        (8, 1, 1, 63),
        (8, 1, 5, 64),
        (8, 3, 4, 64),
        (7, 1, 4, 64),
        (8, 64),
        (1, 8, 2, 4, 64),
        (4, 65),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
def test_12_13_attn_mask_of_another_shape(
    dtype: torch.dtype, shape: tuple[int, ...], device: torch.device
) -> None:
    mask = torch.ones(shape, dtype=dtype, device=device)
    inputs = make_inputs(batch=8, queries=4, keys=64, device=device)
    with says("masked_attention", "attn_mask", "[8, 2, 4, 64]", str(list(shape))):
        inputs.call(masked_attention, attn_mask=mask)
    with says("masked_softmax", "attn_mask", "[8, 2, 4, 64]", str(list(shape))):
        masked_softmax(torch.ones(8, 2, 4, 64, device=device), attn_mask=mask)
    with says("cached_attention", "attn_mask", "[8, 2, 4, 64]", str(list(shape))):
        make_step(batch=8, position=60, queries=4, device=device).call(attn_mask=mask)


def test_12_a_wrong_shape_names_the_other_argument(device: torch.device) -> None:
    inputs = make_inputs(batch=8, queries=4, keys=64, device=device)
    pairs = torch.ones(8, 1, 4, 64, dtype=torch.bool, device=device)
    with says("masked_attention", "key_mask", "attn_mask"):
        inputs.call(masked_attention, key_mask=pairs)
    with says("masked_attention", "attn_mask", "key_mask"):
        inputs.call(masked_attention, attn_mask=pairs[:, 0, 0])


@pytest.mark.parametrize("shape", [(), (5,), (2, 1, 5), (2, 1, 5, 5)], ids=str)
def test_12_expand_mask_takes_two_dimensions(shape: tuple[int, ...], device: torch.device) -> None:
    with says("expand_mask", "mask", "[batch, keys]", str(list(shape))):
        expand_mask(torch.ones(shape, dtype=torch.int64, device=device), dtype=torch.float32)


def test_14_mask_on_another_device(device: torch.device) -> None:
    inputs = make_inputs(device=device)
    for name, shape in (("key_mask", (2, 17)), ("attn_mask", (17, 17))):
        mask = torch.ones(shape, dtype=torch.bool, device="meta")
        with says("masked_attention", name, "meta", device.type):
            inputs.call(masked_attention, **{name: mask})
        with says("masked_softmax", name, "meta", device.type):
            masked_softmax(torch.ones(2, 2, 17, 17, device=device), **{name: mask})
        step = make_step(position=16, device=device)
        with says("cached_attention", name, "meta", device.type):
            step.call(**{name: mask if name == "key_mask" else mask[:1]})


@pytest.mark.parametrize("bias", [-1e4, -1e9])
@pytest.mark.parametrize("queries", [2, 33])
def test_58_large_negative_biases_are_biases(
    queries: int, bias: float, device: torch.device
) -> None:
    """Weight exactly 0 beside a key without bias, but not masked where nothing else is seen."""
    scores = torch.randn(2, 2, queries, 70).to(device)
    mask = key_mask("left", 2, 70, device)
    assert mask is not None
    far = torch.zeros(2, 1, 1, 70, device=device).masked_fill(~mask[:, None, None], bias)
    weights = masked_softmax(scores, attn_mask=far)
    assert_all_zero(weights[(far < 0).expand_as(weights)])
    inputs = make_inputs(queries=queries, keys=70, device=device)
    torch.testing.assert_close(
        inputs.call(masked_attention, attn_mask=far), inputs.call(masked_attention, key_mask=mask)
    )
    everywhere = torch.full((1, 1, 1, 70), bias, device=device)
    ours = inputs.call(masked_attention, attn_mask=everywhere)
    rival = oracle.torch_attention(*inputs.tensors(), attn_mask=everywhere)
    torch.testing.assert_close(ours, rival, rtol=0, atol=1e-5 if bias == -1e9 else 2e-3)
    if bias == -1e9:
        uniform = inputs.value.mean(2, keepdim=True).expand_as(ours)
        torch.testing.assert_close(ours, uniform, rtol=0, atol=1e-5)
        alone = masked_softmax(scores, attn_mask=everywhere)
        torch.testing.assert_close(alone, torch.full_like(alone, 1 / 70))


def test_58_biased_keys_are_read(device: torch.device) -> None:
    """A bias hides nothing: NaN at a key with -1e9 reaches the result."""
    inputs = make_inputs(queries=3, keys=70, device=device)
    inputs.value[:, :, 10] = math.nan
    far = torch.zeros(1, 1, 1, 70, device=device)
    far[..., 10] = -1e9
    assert inputs.call(masked_attention, attn_mask=far).isnan().all()
