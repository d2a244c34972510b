"""``softcap``, ``sinks`` and ``alibi_slopes`` of every attention operator against the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.accuracy import assert_attention_accurate, assert_same_bits
from support.cached import check_step, make_step
from support.cases import (
    DTYPES,
    KEY_MASKS,
    MASK_SHAPES,
    attn_mask,
    case_id,
    key_mask,
    make_inputs,
    mask_shape,
    rotate,
)
from support.oracle import Masks
from support.packed import make_packed
from support.scores import KINDS, of_row, score_options

from masked_attn import masked_attention

QUERIES = (1, 1, 2, 8, 9, 17, 65, 130)
KEYS = (1, 7, 8, 9, 17, 64, 65, 129, 300)
MASKED = rotate(
    120,
    seed=41,
    kind=KINDS,
    option_dtype=DTYPES,
    batch=(1, 2, 3),
    heads=((1, 1), (2, 2), (4, 2), (6, 1)),
    queries=QUERIES,
    keys=KEYS,
    dims=((16, 16), (64, 64), (80, 33), (7, 128)),
    dtype=DTYPES,
    padding=KEY_MASKS,
    attn=("none", "none", "bool", "float32"),
    attn_shape=MASK_SHAPES,
    causal=(False, True),
    window=(None, None, 3, 70),
)


@pytest.mark.parametrize("case", MASKED, ids=case_id)
def test_masked_attention(case: dict[str, Any], device: torch.device) -> None:
    sizes = {name: case[name] for name in case if name not in ("kind", "option_dtype")}
    inputs = make_inputs(**sizes, device=device)
    inputs.masks.extra = score_options(
        case["kind"], case["batch"], case["heads"][0], dtype=case["option_dtype"], device=device
    )
    out, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
    assert_attention_accurate(out, logsumexp, *inputs.tensors(), inputs.masks)
    assert_same_bits(inputs.call(masked_attention), out, "without logsumexp")


PACKED = rotate(
    40,
    seed=42,
    kind=KINDS,
    lengths=(
        (5, 0, 17, 0),
        (9, 8, 7, 1, 64, 65, 63),
        (130, 0, 3, 257, 1, 48),
        ((1, 600), (1, 30), (1, 257)),
        ((8, 257), (8, 0), (0, 5), (3, 512)),
        ((30, 70), (2, 300), (50, 9)),
    ),
    heads=((2, 2), (4, 2), (3, 1)),
    dims=((16, 16), (64, 64), (80, 33)),
    dtype=DTYPES,
    causal=(True, False),
    window=(None, 20),
)


@pytest.mark.parametrize("case", PACKED, ids=case_id)
def test_packed_attention(case: dict[str, Any], device: torch.device) -> None:
    """Each sequence is right, and has the bits of it alone."""
    sizes = {name: case[name] for name in case if name != "kind"}
    packed = make_packed(**sizes, device=device)
    options = score_options(
        case["kind"], len(packed.rows), case["heads"][0], dtype=case["dtype"], device=device
    )
    parts = packed.rows_of(*packed.call(return_logsumexp=True, **options))
    for number, (row, ours) in enumerate(zip(packed.rows, parts, strict=True)):
        row.masks.extra = of_row(options, number)
        assert_attention_accurate(*ours, *row.tensors(), row.masks)
        alone = row.call(masked_attention, return_logsumexp=True)
        for name, mine, expected in zip(("output", "logsumexp"), ours, alone, strict=True):
            assert_same_bits(mine, expected, f"{name} of sequence {number}")


CACHED = rotate(
    50,
    seed=43,
    kind=KINDS,
    dtype=DTYPES,
    batch=(1, 2, 3),
    heads=((1, 1), (2, 2), (4, 2)),
    queries=(1, 1, 1, 2, 8, 9, 33),
    position=(0, 1, 8, 63, 64, 128, 300),
    dims=((16, 16), (64, 64), (15, 33)),
    padding=KEY_MASKS,
    attn=("none", "none", "bool", "float32"),
    window=(None, None, 1, 16),
)


@pytest.mark.parametrize("case", CACHED, ids=case_id)
def test_cached_attention(case: dict[str, Any], device: torch.device) -> None:
    """Both overloads, the position on the host and on the device."""
    batch, heads, end = case["batch"], case["heads"][0], case["position"] + case["queries"]
    masks = Masks(
        key_mask(case["padding"], batch, end),
        attn_mask(case["attn"], mask_shape("B1QK", batch, heads, case["queries"], end)),
        window=case["window"],
        extra=score_options(case["kind"], batch, heads),
    )
    names = ("dtype", "batch", "heads", "queries", "position", "dims")
    check_step(make_step(**{name: case[name] for name in names}, masks=masks, device=device))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kv_dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_keys_beside_a_float32_query(
    kv_dtype: torch.dtype, kind: str, device: torch.device
) -> None:
    for queries in (1, 40):
        sizes: dict[str, Any] = {"queries": queries, "keys": 90, "padding": "left"}
        inputs = make_inputs(**sizes, kv_dtype=kv_dtype, causal=True, device=device)
        inputs.masks.extra = score_options(kind, 2, 2, device=device)
        out, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
        assert_attention_accurate(out, logsumexp, *inputs.tensors(), inputs.masks)


@pytest.mark.parametrize("name", ["sinks", "alibi_slopes"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_18_strided_sinks_and_slopes(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Any strides, and any dtype beside the query's: the values alone count."""
    inputs = make_inputs(heads=(4, 2), queries=9, keys=70, dtype=dtype, device=device)
    for option_dtype in DTYPES:
        values = torch.tensor([0.5, -1.0, 0.25, 2.0], dtype=option_dtype, device=device)
        expected = inputs.call(masked_attention, **{name: values})
        strided = torch.stack([values, values + 7], dim=1)[:, 0]
        assert not strided.is_contiguous()
        assert_same_bits(inputs.call(masked_attention, **{name: strided}), expected)
        if name == "alibi_slopes":
            for rows in (values.expand(2, 4), values[:, None].repeat(1, 2).t()):
                assert_same_bits(inputs.call(masked_attention, alibi_slopes=rows), expected)
