"""``masked_attention`` against the oracle: sizes, head sizes, head groups, dtypes, scales."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import oracle
from support.accuracy import assert_attention_accurate, assert_same_bits
from support.cases import (
    DTYPES,
    HEAD_DIMS,
    SIZES,
    SMALL_SIZES,
    Inputs,
    case_id,
    make_inputs,
    rotate,
)
from support.devices import MAX_CUDA_HEAD_DIM
from support.oracle import Masks

from masked_attn import masked_attention

GROUPS = ((1, 1), (2, 2), (4, 2), (6, 1))
MIXED = (None, None, torch.bfloat16, torch.float16)


def check(inputs: Inputs, scale: float | None = None) -> None:
    out, logsumexp = inputs.call(masked_attention, scale=scale, return_logsumexp=True)
    assert_attention_accurate(out, logsumexp, *inputs.tensors(), inputs.masks, scale)
    assert_same_bits(inputs.call(masked_attention, scale=scale), out, "without logsumexp")


LARGE = rotate(
    60,
    seed=3,
    dtype=(torch.float32, torch.bfloat16, torch.float16),
    batch=(1, 2),
    heads=GROUPS,
    queries=SIZES,
    keys=SIZES,
    dims=[(dim, dim) for dim in HEAD_DIMS],
    padding=("none", "left", "right", "holes"),
    causal=(False, True),
)


@pytest.mark.parametrize("row", LARGE, ids=case_id)
def test_sizes(row: dict[str, Any], device: torch.device) -> None:
    check(make_inputs(**row, device=device))


DOUBLE = rotate(
    24,
    seed=4,
    batch=(1, 2),
    heads=((1, 1), (4, 2)),
    queries=SMALL_SIZES,
    keys=SMALL_SIZES,
    dims=[(dim, dim) for dim in HEAD_DIMS[:-1]],
    padding=("none", "left", "right", "holes"),
    causal=(False, True),
)


@pytest.mark.parametrize("row", DOUBLE, ids=case_id)
def test_28_float64(row: dict[str, Any], device: torch.device) -> None:
    check(make_inputs(**row, dtype=torch.float64, device=device))


@pytest.mark.parametrize("queries", [1, 8, 9, 40])
@pytest.mark.parametrize("kv_dtype", [torch.bfloat16, torch.float16], ids=str)
def test_float32_query_beside_half_keys(
    kv_dtype: torch.dtype, queries: int, device: torch.device
) -> None:
    options = {"kv_dtype": kv_dtype, "padding": "left", "device": device}
    check(make_inputs(queries=queries, keys=100, heads=(4, 2), dims=(64, 64), **options))


def test_17_every_head_size_once(device: torch.device) -> None:
    """Each head size 1 to 256, on the CPU some beyond, on the few- and the many-query path."""
    failures = []
    beyond = (257, 300, 512) if device.type == "cpu" else ()
    for dim in (*range(1, MAX_CUDA_HEAD_DIM + 1), *beyond):
        sizes = {"heads": (4, 2), "keys": 11, "dims": (dim, dim)}
        for queries in (3, 11):
            try:
                check(make_inputs(**sizes, queries=queries, device=device))
            except AssertionError as error:
                failures.append(f"head_dim {dim}, {queries} queries: {error}")
    assert not failures, "\n".join(failures)


DIMS = rotate(
    30,
    seed=5,
    dtype=DTYPES,
    queries=(1, 7, 9, 33),
    keys=(1, 31, 65, 80),
    head_dim=(1, 3, 16, 33, 64, 100),
    value_dim=(1, 2, 15, 48, 64, 129, 256),
    kv_heads=(1, 2),
)


@pytest.mark.parametrize("row", DIMS, ids=case_id)
def test_value_size_differs_from_key_size(row: dict[str, Any], device: torch.device) -> None:
    check(
        make_inputs(
            dtype=row["dtype"],
            heads=(4, row["kv_heads"]),
            queries=row["queries"],
            keys=row["keys"],
            dims=(row["head_dim"], row["value_dim"]),
            padding="left",
            device=device,
        )
    )


@pytest.mark.parametrize("queries", [1, 20])
@pytest.mark.parametrize(
    "heads", [(1, 1), (8, 8), (8, 4), (8, 2), (8, 1), (12, 3), (7, 7), (25, 5)]
)
def test_grouped_heads_equal_repeated_heads(
    heads: tuple[int, int], queries: int, device: torch.device
) -> None:
    masks = {"padding": "left", "causal": True}
    inputs = make_inputs(heads=heads, queries=queries, keys=70, **masks, device=device)
    check(inputs)
    groups = heads[0] // heads[1]
    key, value = (t.repeat_interleave(groups, dim=1) for t in (inputs.key, inputs.value))
    repeated = Inputs(inputs.query, key, value, inputs.masks)
    torch.testing.assert_close(inputs.call(masked_attention), repeated.call(masked_attention))


@pytest.mark.parametrize("scale", [None, 1.0, 0.3, -0.5, 1e-3, 4.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_24_scales(dtype: torch.dtype, scale: float | None, device: torch.device) -> None:
    for queries in (2, 30):
        options = {"dtype": dtype, "padding": "holes", "device": device}
        check(make_inputs(queries=queries, keys=65, **options), scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 20])
def test_24_scale_zero_is_the_mean_of_the_visible_values(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    inputs = make_inputs(queries=queries, keys=33, dtype=dtype, padding="left", device=device)
    check(inputs, 0.0)
    mask = inputs.masks.key_mask
    assert mask is not None
    mean = torch.stack([inputs.value[b][:, mask[b]].double().mean(1) for b in range(2)])
    out = inputs.call(masked_attention, scale=0.0).double()
    torch.testing.assert_close(
        out, mean[:, :, None].expand_as(out), rtol=0, atol=4 * torch.finfo(dtype).eps
    )


SDPA = rotate(
    24,
    seed=6,
    dtype=(torch.float32, torch.bfloat16, torch.float64),
    queries=(1, 8, 33, 65, 129),
    more_keys=(0, 0, 1, 40),
    attn=("none", "bool", "float32"),
    attn_shape=("QK", "B11K", "B1QK", "BHQK"),
    causal=(False, True),
)


@pytest.mark.parametrize("row", SDPA, ids=case_id)
def test_equals_sdpa_where_both_mean_the_same(row: dict[str, Any], device: torch.device) -> None:
    """No empty rows, -inf for masked, and causal spelled out when Q != K (SDPA aligns top left)."""
    dtype, keys = row["dtype"], row["queries"] + row["more_keys"]
    attn = str(dtype).removeprefix("torch.") if row["attn"] == "float32" else row["attn"]
    inputs = make_inputs(
        queries=row["queries"],
        keys=keys,
        dtype=dtype,
        dims=(32, 32),
        attn=attn,
        attn_shape=row["attn_shape"],
        device=device,
    )
    mask = inputs.masks.attn_mask
    if mask is not None:
        mask[..., 0] = True if mask.dtype == torch.bool else 0.25
        if mask.dtype != torch.bool:
            mask[mask <= torch.finfo(dtype).min] = float("-inf")
    position = torch.from_numpy(oracle.seen_by_position(row["queries"], keys, row["causal"]))
    position = position.to(device)
    sdpa_mask = (
        position
        if mask is None
        else mask & position
        if mask.dtype == torch.bool
        else (mask.masked_fill(~position, float("-inf")))
    )
    inputs.masks.causal = row["causal"]
    ours = inputs.call(masked_attention)
    rival = oracle.torch_attention(*inputs.tensors(), attn_mask=sdpa_mask)
    assert_attention_accurate(ours, None, *inputs.tensors(), inputs.masks)
    # The meaning, not the bits: how exact torch's operator is depends on the machine.
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(ours, rival, rtol=64 * step, atol=64 * step)


def test_permuted_keys_with_their_mask_change_nothing(device: torch.device) -> None:
    inputs = make_inputs(queries=12, keys=100, padding="holes", device=device)
    order = torch.randperm(100).to(device)
    mask = inputs.masks.key_mask
    assert mask is not None
    shuffled = masked_attention(
        inputs.query, inputs.key[:, :, order], inputs.value[:, :, order], key_mask=mask[:, order]
    )
    torch.testing.assert_close(shuffled, inputs.call(masked_attention))


def test_a_constant_added_to_the_scores_changes_nothing(device: torch.device) -> None:
    inputs = make_inputs(queries=12, keys=100, device=device)
    shift = torch.full((1, 1, 12, 1), 20.0, device=device)
    shifted = inputs.call(masked_attention, attn_mask=shift)
    torch.testing.assert_close(shifted, inputs.call(masked_attention), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [30.0, 1e3, 3e4])
@pytest.mark.parametrize("queries", [2, 40])
def test_23_scores_beyond_the_range_of_float16(
    queries: int, size: float, dtype: torch.dtype, device: torch.device
) -> None:
    """Products reach 1e9 and more: finite in float32, so the result must be finite."""
    options = {"dtype": dtype, "device": device}
    inputs = make_inputs(queries=queries, keys=70, dims=(64, 64), padding="left", **options)
    inputs.query = (inputs.query.clamp(-1.5, 1.5) * size).to(dtype)
    inputs.key = (inputs.key.clamp(-1.5, 1.5) * size).to(dtype)
    out, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
    assert out.isfinite().all() and logsumexp.isfinite().all()
    masks = Masks(key_mask=inputs.masks.key_mask)
    assert_attention_accurate(out, logsumexp, *inputs.tensors(), masks)
