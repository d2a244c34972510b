"""``flash_attn_with_kvcache``: what is seen, row by row, against the oracle."""

from __future__ import annotations

import pytest
import torch
from support.cases import DTYPES
from support.flash_cache import Step, assert_right
from support.flash_oracle import Call, tensors

BATCH, SLOTS, HEADS, HEADS_K, DIM = 3, 12, 4, 2, 8
SAME, RAGGED = [5, 5, 5], [5, 0, 7]
WINDOWS = [(-1, -1), (3, 3), (3, 0), (3, 1), (0, 2), (-1, 2), (2, -1)]


def step(queries=1, new=1, filled=RAGGED, dtype=torch.float64, device="cpu", **options):
    cache_rows = options.pop("cache_rows", BATCH)
    cache = (cache_rows, SLOTS, HEADS_K, DIM)
    q, k_cache, v_cache = tensors(
        (BATCH, queries, HEADS, DIM), cache, cache, dtype=dtype, device=device
    )
    k, v = tensors(*[(BATCH, new, HEADS_K, DIM)] * 2, dtype=dtype, device=device)
    if not new:
        k = v = None
    return Step(q, k_cache, v_cache, k, v, filled, **options)


def garbage_behind(step):
    """NaN in every slot that no row sees: none may show."""
    for row in range(step.k_cache.shape[0]):
        filled = step.filled if isinstance(step.filled, int) else step.filled[row]
        step.k_cache[row, filled:] = float("nan")
        step.v_cache[row, filled:] = float("nan")
        if step.leftpad is not None:
            step.k_cache[row, : step.leftpad[row]] = float("nan")
            step.v_cache[row, : step.leftpad[row]] = float("nan")
    return step


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("filled", [5, SAME, RAGGED], ids=str)
@pytest.mark.parametrize(("queries", "new"), [(1, 0), (1, 1), (4, 4), (4, 0), (4, 2), (2, 4)])
def test_rows_of_a_cache(queries, new, filled, causal, device):
    case = step(queries, new, filled, device=device, call=Call(causal=causal))
    assert_right(garbage_behind(case) if new == 0 or queries == new else case)


def test_all_slots_are_seen_without_lengths():
    case = step(new=0, filled=SLOTS)
    arguments = case.kwargs()
    del arguments["cache_seqlens"]
    from masked_attn.flash import flash_attn_with_kvcache

    out, _, _, _ = case.expected()
    torch.testing.assert_close(flash_attn_with_kvcache(**arguments), out)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
@pytest.mark.parametrize("queries", [1, 4])
def test_windows(queries, filled, window, causal):
    call = Call(causal=causal, window_size=window)
    assert_right(garbage_behind(step(queries, queries, filled, call=call)))


@pytest.mark.parametrize("leftpad", [[2, 2, 2], [2, 0, 4]], ids=str)
@pytest.mark.parametrize("window", [(-1, -1), (3, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
@pytest.mark.parametrize("queries", [1, 4])
def test_leftpad(queries, filled, window, leftpad, device):
    leftpad = [min(pad, length) for pad, length in zip(leftpad, filled, strict=True)]
    call = Call(causal=True, window_size=window)
    case = step(queries, queries, filled, device=device, leftpad=leftpad, call=call)
    assert_right(garbage_behind(case))


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (3, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
@pytest.mark.parametrize("queries", [1, 4])
def test_alibi(queries, filled, window, causal, rows, device):
    slopes = torch.rand(BATCH, HEADS, device=device)
    call = Call(causal, window, alibi_slopes=slopes if rows else slopes[0])
    assert_right(step(queries, queries, filled, device=device, call=call))
    leftpad = [1, 0, 3]
    assert_right(step(queries, queries, filled, device=device, call=call, leftpad=leftpad))


@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
@pytest.mark.parametrize("queries", [1, 4])
def test_softcap_and_scale(queries, filled):
    call = Call(causal=True, softcap=0.7, softmax_scale=0.9)
    assert_right(step(queries, queries, filled, call=call))


@pytest.mark.parametrize("rows", [[4, 0, 2], [1, 2, 3]], ids=str)
@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
@pytest.mark.parametrize(("queries", "new"), [(1, 1), (4, 4), (1, 0)])
def test_rows_of_a_larger_cache(queries, new, filled, rows, device):
    call = Call(causal=True, alibi_slopes=torch.rand(BATCH, HEADS, device=device))
    for each in (Call(causal=True), call):
        case = step(queries, new, filled, device=device, rows=rows, cache_rows=5, call=each)
        assert_right(case)
    case.leftpad = [0, 0, 2]
    assert_right(case)


def test_rows_behind_the_batch_are_left_alone():
    assert_right(step(cache_rows=5, filled=5))
    assert_right(step(cache_rows=5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
def test_dtypes(filled, dtype, device):
    assert_right(step(filled=filled, dtype=dtype, device=device, call=Call(causal=True)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("filled", [SAME, RAGGED], ids=str)
def test_a_cache_of_half_the_size_beside_float32(filled, dtype):
    case = step(filled=filled, dtype=torch.float32, call=Call(causal=True))
    case.k_cache, case.v_cache = case.k_cache.to(dtype), case.v_cache.to(dtype)
    assert_right(case)


def test_caches_may_be_views():
    case = step(call=Call(causal=True))
    both = torch.randn(BATCH, SLOTS, 2, HEADS_K, DIM, dtype=torch.float64)
    case.k_cache, case.v_cache = both.unbind(2)
    arguments = case.kwargs()
    written = both.clone()
    arguments["k_cache"], arguments["v_cache"] = written.unbind(2)
    from masked_attn.flash import flash_attn_with_kvcache

    out, _, k_cache, v_cache = case.expected()
    torch.testing.assert_close(flash_attn_with_kvcache(**arguments), out)
    torch.testing.assert_close(written, torch.stack([k_cache, v_cache], dim=2))


@pytest.mark.parametrize("num_splits", [0, 1, 3])
def test_splits_change_nothing(num_splits):
    from masked_attn.flash import flash_attn_with_kvcache

    case = step()
    expected = flash_attn_with_kvcache(**case.kwargs())
    assert torch.equal(flash_attn_with_kvcache(**case.kwargs(), num_splits=num_splits), expected)
