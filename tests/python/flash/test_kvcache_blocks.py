"""``flash_attn_with_kvcache`` over caches in blocks, and with rotary embeddings."""

from __future__ import annotations

import pytest
import torch
from support.cases import DTYPES
from support.flash_cache import Step, assert_right
from support.flash_oracle import Call, tensors

BATCH, HEADS, HEADS_K, DIM = 3, 4, 2, 8
FILLED = [5, 0, 7]


def paged(queries, new, size, device="cpu", **options):
    """Blocks in no order; -1 where a row needs none."""
    blocks_of_a_row = -(-12 // size)
    blocks = BATCH * blocks_of_a_row + 2
    order = torch.randperm(blocks).tolist()
    table = []
    for filled in FILLED:
        used = -(-(filled + new) // size)
        own = [order.pop() for _ in range(used)]
        table.append(own + [-1] * (blocks_of_a_row - used))
    shape = (blocks, size, HEADS_K, DIM)
    q, k_cache, v_cache, k, v = tensors(
        (BATCH, queries, HEADS, DIM), shape, shape, *[(BATCH, new, HEADS_K, DIM)] * 2, device=device
    )
    if not new:
        k = v = None
    return Step(q, k_cache, v_cache, k, v, FILLED, table=table, **options)


@pytest.mark.parametrize("size", [1, 4, 256])
@pytest.mark.parametrize(("queries", "new"), [(1, 1), (4, 4), (1, 0), (4, 0)])
def test_blocks(queries, new, size, device):
    assert_right(paged(queries, new, size, device, call=Call(causal=True)))


@pytest.mark.parametrize("queries", [1, 4])
def test_blocks_with_everything(queries):
    call = Call(True, (3, 1), 0.7, 0.9, torch.rand(BATCH, HEADS))
    assert_right(paged(queries, queries, 4, call=call, leftpad=[2, 0, 1]))


def turning(queries, new, filled, half, call, dtype=torch.float64, interleaved=True, device="cpu"):
    cache = (BATCH, 12, HEADS_K, DIM)
    q, k_cache, v_cache, k, v = tensors(
        (BATCH, queries, HEADS, DIM),
        cache,
        cache,
        *[(BATCH, new, HEADS_K, DIM)] * 2,
        dtype=dtype,
        device=device,
    )
    angles = torch.rand(16, half, dtype=torch.float64, device=device) * 7
    tables = {"cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)}
    return Step(q, k_cache, v_cache, k, v, filled, interleaved=interleaved, call=call, **tables)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("half", [1, 2, 4])
@pytest.mark.parametrize("call", [Call(), Call(causal=True), Call(window_size=(3, 2))], ids=str)
@pytest.mark.parametrize("filled", [5, FILLED], ids=str)
@pytest.mark.parametrize(("queries", "new"), [(1, 1), (4, 4), (4, 2)])
def test_rotary(queries, new, filled, call, half, interleaved):
    assert_right(turning(queries, new, filled, half, call, interleaved=interleaved))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rotary_dtypes(dtype, interleaved, device):
    case = turning(4, 4, FILLED, 4, Call(causal=True), dtype, interleaved, device)
    assert_right(case)


def test_rotary_counts_slots_beside_leftpad():
    case = turning(4, 4, FILLED, 4, Call(causal=True))
    case.leftpad = [3, 0, 2]
    assert_right(case)
