"""Bad inputs of packed_attention: 59 (offsets), and those of every operator."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cases import DTYPES
from support.errors import says
from support.packed import make_packed, offsets
from torch import Tensor

from masked_attn import packed_attention

OP = "packed_attention"
NAMES = ("query", "key", "value")
CPU = torch.device("cpu")


def arguments(device: torch.device, **changes: Any) -> dict[str, Any]:
    """Three sequences of 3, 0 and 5 queries; with ``own_keys`` over 4, 2 and 6 keys."""
    own_keys = changes.pop("own_keys", False)
    keys = 12 if own_keys else 8
    shapes = {"query": (8, 4, 16), "key": (keys, 2, 16), "value": (keys, 2, 16)}
    tensors = {
        name: torch.ones(changes.pop(f"{name}_shape", shape), device=device)
        for name, shape in shapes.items()
    }
    lengths: dict[str, Any] = {"cu_seqlens": offsets((3, 0, 5)).to(device), "max_seqlen": 5}
    if own_keys:
        lengths |= {"cu_seqlens_k": offsets((4, 2, 6)).to(device), "max_seqlen_k": 6}
    return {**tensors, **lengths, **changes}


WRONG_VALUES = [
    ([1, 3, 3, 8], ["cu_seqlens[0]", "0", "1"]),
    ([-1, 3, 3, 8], ["cu_seqlens[0]", "-1"]),
    ([0, 3, 2, 8], ["decrease", "cu_seqlens[2] = 2", "3"]),
    ([0, 3, 3, 2], ["decrease", "cu_seqlens[3] = 2"]),
    ([0, 3, 3, 7], ["cu_seqlens[3]", "queries", "8", "7"]),
    ([0, 4, 4, 9], ["cu_seqlens[3]", "queries", "8", "9"]),
    ([0, 8], ["cu_seqlens[1] = 8", "sequence 0", "max_seqlen = 5"]),
    ([0, 2, 8], ["sequence 1", "6", "max_seqlen = 5"]),
    ([0], ["cu_seqlens[0]", "8"]),
    ([0, 2**31 - 1], ["sequence 0", "max_seqlen = 5"]),
    ([0, -(2**31)], ["decrease"]),
]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(("values", "parts"), WRONG_VALUES, ids=str)
def test_59_wrong_values_on_the_cpu(
    values: list[int], parts: list[str], dtype: torch.dtype
) -> None:
    wrong = torch.tensor(values, dtype=dtype)
    with says(OP, *parts):
        packed_attention(**arguments(CPU, cu_seqlens=wrong))


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ([2, 4, 6, 12], ["cu_seqlens_k[0]"]),
        ([0, 4, 3, 12], ["cu_seqlens_k[2] = 3", "4"]),
        ([0, 4, 6, 11], ["cu_seqlens_k[3]", "keys", "12", "11"]),
        ([0, 7, 7, 12], ["sequence 0", "7 keys", "max_seqlen_k = 6"]),
    ],
    ids=str,
)
def test_59_wrong_values_of_the_keys(values: list[int], parts: list[str]) -> None:
    wrong = torch.tensor(values)
    with says(OP, *parts):
        packed_attention(**arguments(CPU, own_keys=True, cu_seqlens_k=wrong))


def test_59_keys_are_checked_where_their_offsets_are_those_of_the_queries() -> None:
    """One tensor for both, a view of it, a copy: what counts is that the arguments were given."""
    right = arguments(CPU)
    own = right["cu_seqlens"]
    for offsets_k in (own, own[:], own.view(-1), own.clone(), own.int()):
        with says(OP, "sequence 0", "3 keys", "max_seqlen_k = 2"):
            packed_attention(**right, cu_seqlens_k=offsets_k, max_seqlen_k=2)
        more = torch.ones(9, 2, 16)
        with says(OP, "cu_seqlens_k[3]", "keys", "9", "8"):
            changes = {"key": more, "value": more, "cu_seqlens_k": offsets_k, "max_seqlen_k": 5}
            packed_attention(**{**right, **changes})
        same = packed_attention(**right, cu_seqlens_k=offsets_k, max_seqlen_k=5)
        assert_same_bits(same, packed_attention(**right))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8, torch.int16], ids=str)
def test_59_offsets_of_another_dtype(dtype: torch.dtype, device: torch.device) -> None:
    wrong = torch.zeros(4, device=device).to(dtype)
    with says(OP, "cu_seqlens ", "int32 or int64", str(dtype).removeprefix("torch.")[:5]):
        packed_attention(**arguments(device, cu_seqlens=wrong))
    with says(OP, "cu_seqlens_k ", "int32 or int64"):
        packed_attention(**arguments(device, own_keys=True, cu_seqlens_k=wrong))


@pytest.mark.parametrize("shape", [(0,), (), (2, 2)], ids=str)
def test_59_offsets_of_another_shape(shape: tuple[int, ...], device: torch.device) -> None:
    wrong = torch.zeros(shape, dtype=torch.int64, device=device)
    with says(OP, "cu_seqlens ", str(list(shape))):
        packed_attention(**arguments(device, cu_seqlens=wrong))
    with says(OP, "cu_seqlens_k ", str(list(shape))):
        packed_attention(**arguments(device, own_keys=True, cu_seqlens_k=wrong))


def test_59_offsets_of_keys_for_other_sequences(device: torch.device) -> None:
    wrong = torch.tensor([0, 6, 12], device=device)
    with says(OP, "cu_seqlens_k", "[4]", "[3]"):
        packed_attention(**arguments(device, own_keys=True, cu_seqlens_k=wrong))


def test_59_maxima(device: torch.device) -> None:
    with says(OP, "max_seqlen ", "-1"):
        packed_attention(**arguments(device, max_seqlen=-1))
    with says(OP, "max_seqlen_k ", "-3"):
        packed_attention(**arguments(device, own_keys=True, max_seqlen_k=-3))
    for name in ("cu_seqlens_k", "max_seqlen_k"):
        lone = arguments(device, own_keys=True)
        lone.pop(name)
        with says(OP, "belong together", "cu_seqlens_k", "max_seqlen_k"):
            packed_attention(**lone)


def test_59_keys_that_need_offsets_of_their_own(device: torch.device) -> None:
    with says(OP, "9", "8", "cu_seqlens_k"):
        packed_attention(**arguments(device, key_shape=(9, 2, 16), value_shape=(9, 2, 16)))


@pytest.mark.cuda
@pytest.mark.parametrize("values", [values for values, _ in WRONG_VALUES], ids=str)
def test_59_wrong_values_on_cuda_stay_inside(values: list[int]) -> None:
    """No check can raise there; sequences that are right keep their bits."""
    device = torch.device("cuda")
    expected = packed_attention(**arguments(device))
    wrong = torch.tensor(values, device=device)
    ours = packed_attention(**arguments(device, cu_seqlens=wrong))
    torch.cuda.synchronize()
    assert ours.shape == expected.shape
    if values[:3] == [0, 3, 3]:
        assert_same_bits(ours[:3], expected[:3])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(
            (name, shape)
            for name in ("query", "key", "value")
            for shape in ((8, 16), (1, 8, 2, 16))
        ),
        ("key", (8, 2, 15)),
        ("key", (8, 3, 16)),
        ("key", (8, 0, 16)),
        ("value", (7, 2, 16)),
        ("value", (8, 4, 16)),
    ],
)
def test_16_shapes_that_do_not_fit(name: str, shape: tuple[int, ...], device: torch.device) -> None:
    with says(OP, name):
        packed_attention(**arguments(device, **{f"{name}_shape": shape}))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_28_unsupported_dtypes(dtype: torch.dtype, device: torch.device) -> None:
    wrong = arguments(device)
    for name in NAMES:
        wrong[name] = wrong[name].to(dtype)
    with says(OP, "query", str(dtype).removeprefix("torch."), "float32"):
        packed_attention(**wrong)


def test_14_dtypes_and_devices_that_differ(device: torch.device) -> None:
    right = arguments(device)
    with says(OP, "key", "float64"):
        packed_attention(**{**right, "key": right["key"].double()})
    with says(OP, "value", "float16"):
        packed_attention(**{**right, "value": right["value"].half()})
    for name in ("key", "value", "cu_seqlens"):
        with says(OP, name, "meta"):
            packed_attention(**{**right, name: right[name].to("meta")})


@pytest.mark.parametrize("scale", [math.nan, math.inf, 1e39])
def test_24_scale_and_window(scale: float, device: torch.device) -> None:
    with says(OP, "scale", "finite"):
        packed_attention(**arguments(device, scale=scale))
    with says(OP, "window", "0"):
        packed_attention(**arguments(device, window=0))


def test_15_no_gradient_yet(device: torch.device) -> None:
    for name in NAMES:
        wanting = arguments(device)
        wanting[name].requires_grad_()
        with says(OP, "no gradient yet"):
            packed_attention(**wanting)
        with torch.no_grad():
            out = packed_attention(**wanting)
        with torch.inference_mode():
            assert_same_bits(packed_attention(**wanting, return_logsumexp=True)[0], out)


@pytest.mark.parametrize(
    "changes",
    [
        {"query_shape": (8, 0, 16), "key_shape": (8, 0, 16), "value_shape": (8, 0, 16)},
        {"query_shape": (8, 4, 0), "key_shape": (8, 2, 0)},
        {"value_shape": (8, 2, 0)},
    ],
    ids=str,
)
def test_20_21_empty_sizes(changes: dict[str, Any], device: torch.device) -> None:
    args = arguments(device, **changes)
    out = packed_attention(**args)
    assert out.shape == (8, args["query"].shape[1], args["value"].shape[2])
    assert_same_bits(out, torch.ones_like(out))  # the mean of ones


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_26_autocast(low: torch.dtype, device: torch.device) -> None:
    packed = make_packed((5, 70, 9), causal=True, device=device)
    cast = packed.with_tensors(lambda t: t.to(low))
    with torch.autocast(device.type, dtype=low):
        ours = packed.call(), packed.call(return_logsumexp=True)[0]
    for mine in ours:
        assert_same_bits(mine, cast.call())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_29_meta_tensors_describe_the_result(dtype: torch.dtype, device: torch.device) -> None:
    args = arguments(device)
    args |= {name: args[name].to(dtype) for name in NAMES}
    meta = {k: v.to("meta") if isinstance(v, Tensor) else v for k, v in args.items()}
    real = packed_attention(**args, return_logsumexp=True)
    described = packed_attention(**meta, return_logsumexp=True)
    for mine, expected in zip(described, real, strict=True):
        assert mine.device.type == "meta"
        assert (mine.shape, mine.dtype, mine.stride()) == (
            expected.shape,
            expected.dtype,
            expected.stride(),
        )
