"""``expand_mask`` writes constants, so every comparison here is of bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import oracle
from support.accuracy import assert_same_bits
from support.cases import DTYPES, case_id, key_mask, rotate
from support.oracle import Masks
from torch import Tensor

from masked_attn import expand_mask, masked_softmax

MASK_DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *DTYPES,
)


def expected(
    mask: Tensor,
    dtype: torch.dtype,
    query_length: int | None = None,
    causal: bool = False,
    window: int | None = None,
    fill: float | None = None,
) -> Tensor:
    batch, keys = mask.shape
    queries = keys if query_length is None else query_length
    masks = Masks(key_mask=mask != 0, causal=causal, window=window)
    seen = oracle.seen_keys((batch, 1, queries, keys), masks)
    filled = np.where(seen, 0.0, float("-inf") if fill is None else fill)
    return torch.from_numpy(filled).to(dtype)


def test_by_hand(device: torch.device) -> None:
    no = float("-inf")
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]], device=device)
    assert_same_bits(
        expand_mask(mask, dtype=torch.float32, causal=True),
        torch.tensor(
            [
                [[[no, no, no], [no, 0, no], [no, 0, 0]]],
                [[[0, no, no], [0, 0, no], [0, 0, no]]],
            ]
        ),
    )


ROWS = rotate(
    70,
    seed=1,
    dtype=DTYPES,
    mask_dtype=MASK_DTYPES,
    batch=(1, 2, 3),
    keys=(1, 2, 17, 33, 64, 65, 129),
    query_length=(None, None, 1, 2, 16, 64, 130),
    padding=("full", "left", "right", "both", "holes", "one_key", "empty_row"),
    causal=(False, True),
    window=(None, None, 1, 5, 64),
    fill=(None, None, "min", -1e4, 0.0, float("-inf")),
)


@pytest.mark.parametrize("row", ROWS, ids=case_id)
def test_equals_the_rule(row: dict[str, Any], device: torch.device) -> None:
    mask = key_mask(row["padding"], row["batch"], row["keys"], device)
    assert mask is not None
    mask = mask.to(row["mask_dtype"])
    fill = torch.finfo(row["dtype"]).min if row["fill"] == "min" else row["fill"]
    options = {name: row[name] for name in ("query_length", "causal", "window")}
    ours = expand_mask(mask, dtype=row["dtype"], fill=fill, **options)
    assert_same_bits(ours, expected(mask, row["dtype"], fill=fill, **options))
    assert ours.is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_fill_the_dtype_can_hold(dtype: torch.dtype, device: torch.device) -> None:
    mask = torch.tensor([[True, False]], device=device)
    limits = torch.finfo(dtype)
    for fill in (limits.min, limits.max, -0.0, -limits.tiny, float("inf"), float("-inf")):
        ours = expand_mask(mask, dtype=dtype, query_length=1, fill=fill)
        assert_same_bits(ours[..., 1], torch.full((1, 1, 1), fill, dtype=dtype))
        assert_same_bits(ours[..., 0], torch.zeros(1, 1, 1, dtype=dtype))


def test_strided_mask(device: torch.device) -> None:
    wide = (torch.rand(6, 40) < 0.5).to(device)
    for mask in (
        wide[:, ::2],
        wide.t(),
        wide[::3, 5:],
        wide[:1].expand(4, 40),
        wide[:, :1].expand(6, 9),
    ):
        assert_same_bits(
            expand_mask(mask, dtype=torch.float32, causal=True),
            expand_mask(mask.contiguous(), dtype=torch.float32, causal=True),
        )


@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_20_empty_sizes(batch: int, queries: int, keys: int, device: torch.device) -> None:
    mask = torch.ones(batch, keys, dtype=torch.int64, device=device)
    ours = expand_mask(mask, dtype=torch.float32, query_length=queries, causal=True)
    assert ours.shape == (batch, 1, queries, keys)


def test_large_mask(device: torch.device) -> None:
    mask = key_mask("left", 3, 777, device)
    assert mask is not None
    one = expected(mask, torch.bfloat16, causal=True, window=300)
    for threads in (1, 2, 3) if device.type == "cpu" else (1,):
        torch.set_num_threads(threads)
        assert_same_bits(expand_mask(mask, dtype=torch.bfloat16, causal=True, window=300), one)


def test_added_to_scores_it_masks_like_the_key_mask(device: torch.device) -> None:
    mask = key_mask("left", 3, 20, device)
    scores = torch.randn(3, 2, 20, 20).to(device)
    for fill in (None, torch.finfo(torch.float32).min):
        bias = expand_mask(mask, dtype=torch.float32, causal=True, fill=fill)  # type: ignore[arg-type]
        assert_same_bits(
            masked_softmax(scores, attn_mask=bias) != 0,
            masked_softmax(scores, key_mask=mask, causal=True) != 0,
        )
        torch.testing.assert_close(
            masked_softmax(scores, attn_mask=bias),
            masked_softmax(scores, key_mask=mask, causal=True),
        )
