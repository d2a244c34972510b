"""#65: whichever kernel a row takes, it has the same bits alone, padded, packed and cached.

An operator can't tell a padding query from a real one, so the choice must not look at their number:
rows of a few real queries are padded to a few more here, on both sides, with NaN in every pad.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cached import Step
from support.cases import DTYPES, Inputs
from support.oracle import Masks
from support.packed import offsets
from support.padding import Row, make_row, pad

from masked_attn import masked_attention, packed_attention

POSITIONS = ((False, None), (True, None), (True, 7), (False, 20))


def padded_both(row: Row, queries: tuple[int, int], keys: tuple[int, int]) -> Inputs:
    """Pads before and behind queries and keys; as many of both behind keep the positions."""
    assert queries[1] == keys[1]
    tensors = (
        pad(row.query, 2, *queries, math.nan),
        pad(row.key, 2, *keys, math.nan),
        pad(row.value, 2, *keys, math.nan),
    )
    seen = torch.ones(1, row.key.shape[2], dtype=torch.bool, device=row.key.device)
    return Inputs(*tensors, Masks(key_mask=pad(seen, 1, *keys, False)))


def pads_of(
    all_queries: int, real: int, turn: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    spare = all_queries - real
    sides = {(spare, 0), (0, spare), (spare // 2, spare - spare // 2)}
    return [(side, (side[0] + turn % 3 * 31, side[1])) for side in sorted(sides)]


def both(inputs: Inputs, causal: bool, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    out, sums = inputs.call(masked_attention, causal=causal, window=window, return_logsumexp=True)
    return out, sums


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("all_queries", range(2, 13))
def test_65_few_real_queries_padded_equal_alone(
    all_queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    for turn, real in enumerate(range(2, all_queries + 1)):
        for keys in (real + 1, 9, 16, 70, 300):
            row = make_row(max(keys, real), queries=real, heads=(4, 2), dtype=dtype, device=device)
            for causal, window in POSITIONS:
                alone = both(row.inputs(), causal, window)
                for queries, more in pads_of(all_queries, real, turn):
                    ours = both(padded_both(row, queries, more), causal, window)
                    for mine, expected in zip(ours, alone, strict=True):
                        mine = mine[:, :, queries[0] : queries[0] + real]
                        name = f"{real} of {queries}, {keys} keys, causal {causal}, {window}"
                        assert_same_bits(mine, expected, name)


def test_65_five_of_nine_queries_in_a_batch(device: torch.device) -> None:
    """The example: Q=9, K=20, beside a full row one of 5 queries and 16 keys."""
    short, full = (make_row(k, queries=q, device=device) for k, q in ((16, 5), (20, 9)))
    alone: Any = masked_attention(short.query, short.key, short.value, causal=True)
    parts = padded_both(short, (4, 0), (4, 0)), padded_both(full, (0, 0), (0, 0))
    together = [torch.cat(pair) for pair in zip(*(p.tensors() for p in parts), strict=True)]
    mask = torch.ones(2, 20, dtype=torch.bool, device=device)
    mask[0, :4] = False
    ours = masked_attention(*together, key_mask=mask, causal=True)
    assert torch.equal(ours[:1, :, 4:], alone)
    expected = masked_attention(full.query, full.key, full.value, causal=True)
    assert torch.equal(ours[1:], expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_65_packed_equals_alone_and_padded(dtype: torch.dtype, device: torch.device) -> None:
    sizes = [(2, 9), (5, 16), (8, 300), (12, 70), (3, 8), (9, 9), (7, 257), (1, 400), (2, 513)]
    rows = [
        make_row(keys, queries=queries, heads=(4, 2), dtype=dtype, device=device, seed=n)
        for n, (queries, keys) in enumerate(sizes)
    ]
    packed = (
        torch.cat([getattr(row, name)[0].transpose(0, 1) for row in rows])
        for name in ("query", "key", "value")
    )
    lengths = [list(column) for column in zip(*sizes, strict=True)]
    starts, key_starts = (offsets(column).to(device) for column in lengths)
    tensors: Any = tuple(packed)
    for causal, window in POSITIONS:
        options: dict[str, Any] = {
            "cu_seqlens": starts,
            "max_seqlen": max(lengths[0]),
            "cu_seqlens_k": key_starts,
            "max_seqlen_k": max(lengths[1]),
            "causal": causal,
            "window": window,
        }
        out: torch.Tensor = packed_attention(*tensors, **options)
        for row, mine in zip(rows, out.split(lengths[0]), strict=True):
            mine = mine.transpose(0, 1)[None]
            assert_same_bits(mine, both(row.inputs(), causal, window)[0], "alone")
            real = row.query.shape[2]
            if real == 1:  # a step of one query has an order of sums of its own
                continue
            wide = both(padded_both(row, (12 - real, 0), (5, 0)), causal, window)[0]
            assert_same_bits(wide[:, :, 12 - real :], mine, "padded")


def step_of(row: Row, before: int, behind: int, spare: int, window: int | None) -> Step:
    """The row's last queries and keys as new ones behind its other keys in a cache, padded."""
    queries, keys = row.query.shape[2], row.key.shape[2]
    filled = keys - queries + 3 * (before > 0)
    total = before + queries + behind
    key, value = (
        pad(t, 2, filled + before + queries - keys, behind, math.nan) for t in (row.key, row.value)
    )
    caches = (pad(t[:, :, :filled], 2, 0, total + spare, math.nan) for t in (key, value))
    mask = torch.zeros(1, filled + total, dtype=torch.bool, device=key.device)
    mask[:, filled + before + queries - keys : filled + before + queries] = True
    query = pad(row.query, 2, before, behind, math.nan)
    new = (t[:, :, filled:] for t in (key, value))
    return Step(query, *new, *caches, filled, Masks(key_mask=mask, window=window))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("real", range(2, 13))
def test_65_cached_steps_padded_equal_alone(
    real: int, dtype: torch.dtype, device: torch.device
) -> None:
    for turn, keys in enumerate((real + 1, real + 9, 70, 300)):
        row = make_row(keys, queries=real, dtype=dtype, device=device)
        for window in (None, 9):
            expected = both(row.inputs(), True, window)[0]
            for before, behind in ((0, 0), (3, 0), (0, 3), (2, 8), (turn, 1)):
                step = step_of(row, before, behind, turn, window)
                on_device = step.clone()
                for out in (step.call(), on_device.call_device()):
                    mine = out[:, :, before : before + real]
                    assert_same_bits(mine, expected, f"{keys} keys, pads {before}, {behind}")
