"""Promises 14, 16, 28 and 29: dtypes, devices, shapes and kinds of tensors that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.cached import make_step
from support.cases import case_id
from support.errors import says
from torch import Tensor

from masked_attn import cached_attention, expand_mask, masked_attention, masked_softmax

NAMES = ("query", "key", "value")
CACHED_NAMES = ("query", "new_key", "new_value", "key_cache", "value_cache")


def qkv(device: torch.device, **changes: Any) -> dict[str, Tensor]:
    shapes = {"query": (2, 4, 5, 16), "key": (2, 2, 7, 16), "value": (2, 2, 7, 16), **changes}
    return {name: torch.ones(shape, device=device) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, shape) for name in NAMES for shape in ((2, 7, 16), (16,), (), (1, 2, 4, 7, 16))),
        ("key", (3, 2, 7, 16)),
        ("key", (2, 2, 7, 15)),
        ("key", (2, 3, 7, 16)),
        ("key", (2, 0, 7, 16)),
        ("key", (2, 8, 7, 16)),
        ("value", (2, 2, 6, 16)),
        ("value", (2, 4, 7, 16)),
        ("value", (1, 2, 7, 16)),
    ],
)
def test_16_shapes_that_do_not_fit(name: str, shape: tuple[int, ...], device: torch.device) -> None:
    with says("masked_attention", name, str(list(shape))):
        masked_attention(**qkv(device, **{name: shape}))


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 3), (2, 4), (4, 0), (0, 2)])
def test_16_heads_that_do_not_divide(heads: int, kv_heads: int, device: torch.device) -> None:
    query, key = (2, heads, 5, 16), (2, kv_heads, 7, 16)
    if heads == 0:
        assert masked_attention(**qkv(device, query=query, key=key, value=key)).shape == query
        return
    with says("masked_attention", "heads", str(heads), str(kv_heads)):
        masked_attention(**qkv(device, query=query, key=key, value=key))


@pytest.mark.parametrize("shape", [(4, 5, 7), (7,), (), (1, 2, 4, 5, 7)], ids=str)
def test_16_scores_of_another_rank(shape: tuple[int, ...], device: torch.device) -> None:
    with says("masked_softmax", "scores", str(list(shape))):
        masked_softmax(torch.ones(shape, device=device))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("query", (2, 5, 16)),
        ("new_key", (2, 2, 4, 16)),
        ("new_key", (2, 2, 3, 15)),
        ("new_value", (2, 2, 4, 16)),
        ("new_value", (3, 2, 3, 16)),
        ("key_cache", (2, 2, 20, 15)),
        ("key_cache", (2, 4, 20, 16)),
        ("key_cache", (3, 2, 20, 16)),
        ("key_cache", (2, 20, 16)),
        ("value_cache", (2, 2, 20, 17)),
        ("value_cache", (2, 2, 19, 16)),
        ("value_cache", (1, 2, 20, 16)),
    ],
)
def test_16_cached_shapes_that_do_not_fit(
    name: str, shape: tuple[int, ...], device: torch.device
) -> None:
    shapes = {
        "query": (2, 4, 3, 16),
        "new_key": (2, 2, 3, 16),
        "new_value": (2, 2, 3, 16),
        "key_cache": (2, 2, 20, 16),
        "value_cache": (2, 2, 20, 16),
        name: shape,
    }
    tensors = {key: torch.ones(size, device=device) for key, size in shapes.items()}
    for position in (4, torch.tensor(4, device=device)):
        with says("cached_attention", name, str(list(shape))):
            cached_attention(**tensors, position=position)
    assert (tensors["key_cache"] == 1).all() and (tensors["value_cache"] == 1).all()


UNSUPPORTED = (torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", UNSUPPORTED, ids=str)
def test_28_unsupported_dtypes(dtype: torch.dtype, device: torch.device) -> None:
    kind, tensors = str(dtype).removeprefix("torch."), qkv(device)
    with says("masked_attention", "query", kind, "float32"):
        masked_attention(*(t.to(dtype) for t in tensors.values()))
    with says("masked_softmax", "scores", kind, "float32"):
        masked_softmax(torch.ones(1, 1, 2, 2, device=device).to(dtype))
    with says("expand_mask", "dtype", kind):
        expand_mask(torch.ones(1, 2, device=device), dtype=dtype)
    step = make_step(device=device)
    with says("cached_attention", "query", kind):
        cached_attention(*(t.to(dtype) for t in step.tensors()), position=20)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn], ids=str)
def test_28_unsupported_masks(dtype: torch.dtype, device: torch.device) -> None:
    kind = str(dtype).removeprefix("torch.")
    mask = torch.ones(2, 7, device=device).to(dtype)
    if mask.is_complex():
        with says("expand_mask", "mask", kind):
            expand_mask(mask, dtype=torch.float32)
    with says("masked_attention", "attn_mask", kind):
        masked_attention(**qkv(device), attn_mask=mask[:1])
    with says("masked_softmax", "attn_mask", kind):
        masked_softmax(torch.ones(1, 1, 2, 7, device=device), attn_mask=mask)


@pytest.mark.parametrize(
    ("query", "key", "value", "wrong"),
    [
        ("float32", "float64", "float64", "key"),
        ("float64", "float32", "float32", "key"),
        ("float64", "bfloat16", "bfloat16", "key"),
        ("bfloat16", "float32", "float32", "key"),
        ("float16", "bfloat16", "bfloat16", "key"),
        ("float32", "float32", "bfloat16", "value"),
        ("float32", "bfloat16", "float32", "value"),
        ("float32", "bfloat16", "float16", "value"),
    ],
)
def test_14_dtypes_that_do_not_go_together(
    query: str, key: str, value: str, wrong: str, device: torch.device
) -> None:
    kinds = dict(zip(NAMES, (query, key, value), strict=True))
    tensors = {name: t.to(getattr(torch, kinds[name])) for name, t in qkv(device).items()}
    with says("masked_attention", wrong, kinds[wrong]):
        masked_attention(**tensors)


@pytest.mark.parametrize(
    "wrong",
    [
        {"new_key": "bfloat16"},
        {"new_value": "float64"},
        {"key_cache": "bfloat16"},
        {"value_cache": "bfloat16"},
        {"key_cache": "float64", "value_cache": "float64"},
        {"key_cache": "int8", "value_cache": "int8"},
    ],
    ids=case_id,
)
def test_14_cached_dtypes_that_do_not_go_together(
    wrong: dict[str, str], device: torch.device
) -> None:
    tensors = dict(zip(CACHED_NAMES, make_step(garbage=0.0, device=device).tensors(), strict=True))
    for name, kind in wrong.items():
        tensors[name] = tensors[name].to(getattr(torch, kind))
    with says("cached_attention", next(iter(wrong)).split("_")[1], next(iter(wrong.values()))):
        cached_attention(**tensors, position=20)


def test_14_tensors_on_different_devices(device: torch.device) -> None:
    for name in ("key", "value"):
        tensors = qkv(device)
        tensors[name] = tensors[name].to("meta")
        with says("masked_attention", name, "meta", device.type):
            masked_attention(**tensors)
    for name in CACHED_NAMES[1:]:
        tensors = dict(zip(CACHED_NAMES, make_step(device=device).tensors(), strict=True))
        tensors[name] = tensors[name].to("meta")
        with says("cached_attention", name, "meta", device.type):
            cached_attention(**tensors, position=20)


EXOTIC = {
    "sparse": (lambda t: t.to_sparse(), "Sparse"),
    "mkldnn": (lambda t: t.to_mkldnn(), "Mkldnn"),
    "quantized": (lambda t: torch.quantize_per_tensor(t, 1.0, 0, torch.qint8), "Quantized"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "device"),
    [
        *((kind, "cpu") for kind in EXOTIC),
        *(pytest.param(kind, "cuda", marks=pytest.mark.cuda) for kind in ("sparse", "quantized")),
    ],
    indirect=["device"],
)
def test_29_exotic_tensors_are_named(kind: str, device: torch.device) -> None:
    make, backend = EXOTIC[kind]
    dense = torch.ones(2, 2, 5, 16, device=device)
    exotic = make(dense)
    for tensors in ((exotic, exotic, exotic), (dense, exotic, dense), (exotic, dense, dense)):
        with pytest.raises(RuntimeError, match=rf"masked_attn.*{backend}"):
            masked_attention(*tensors)
    with pytest.raises(RuntimeError, match=rf"masked_attn.*{backend}"):
        masked_softmax(exotic)
