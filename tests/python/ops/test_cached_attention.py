"""``cached_attention``: what it writes, what it sees, how it agrees with ``masked_attention``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.accuracy import assert_attention_accurate, assert_same_bits
from support.cached import Step, check_step, make_step
from support.cases import DTYPES, KEY_MASKS, attn_mask, case_id, key_mask, mask_shape, rotate
from support.oracle import Masks

from masked_attn import cached_attention

ROWS = rotate(
    90,
    seed=8,
    dtype=DTYPES,
    batch=(1, 2, 3),
    heads=((1, 1), (2, 2), (4, 2), (6, 1)),
    queries=(1, 1, 1, 2, 7, 8, 9, 33),
    position=(0, 1, 8, 55, 63, 64, 65, 128, 300),
    spare=(0, 1, 40),
    dims=((1, 1), (16, 16), (64, 64), (15, 33), (80, 80), (32, 128)),
    padding=KEY_MASKS,
    attn=("none", "none", "bool", "float32", "float16"),
    attn_shape=("QK", "B11K", "B1QK", "BHQK", "1H1K"),
    window=(None, None, None, 1, 16, 64),
)


@pytest.mark.parametrize("row", ROWS, ids=case_id)
def test_accuracy(row: dict[str, Any], device: torch.device) -> None:
    end = row["position"] + row["queries"]
    shape = mask_shape(row["attn_shape"], row["batch"], row["heads"][0], row["queries"], end)
    masks = Masks(
        key_mask(row["padding"], row["batch"], end),
        attn_mask(row["attn"], shape),
        window=row["window"],
    )
    options = {
        name: row[name] for name in ("dtype", "batch", "heads", "queries", "position", "dims")
    }
    step = make_step(**options, capacity=end + row["spare"], masks=masks, device=device)
    check_step(step)


@pytest.mark.parametrize("cache_dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("queries", [1, 8, 20])
def test_half_caches_beside_a_float32_query(
    queries: int, cache_dtype: torch.dtype, device: torch.device
) -> None:
    masks = Masks(key_mask("left", 2, 90 + queries))
    options = {"queries": queries, "cache_dtype": cache_dtype, "masks": masks}
    check_step(make_step(**options, position=90, dims=(64, 64), device=device))


@pytest.mark.parametrize("scale", [1.0, -0.5, 0.0])
def test_24_scales(scale: float, device: torch.device) -> None:
    check_step(make_step(position=70, device=device), scale)


def strided(step: Step) -> Step:
    """The same values in caches that are views: a slice of a wider, taller buffer."""
    caches = []
    for cache in (step.key_cache, step.value_cache):
        batch, heads, capacity, dim = cache.shape
        buffer = cache.new_full((batch + 1, heads + 2, capacity + 3, dim + 5), 7.0)
        view = buffer[1:, 1:-1, 2:-1, 3:-2]
        caches.append(view.copy_(cache))
    return Step(*step.tensors()[:3], *caches, step.position, step.masks)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 8, 9])
def test_18_caches_may_be_strided_views(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    masks = Masks(key_mask("left", 2, 70 + queries))
    step = make_step(queries=queries, position=70, dtype=dtype, masks=masks, device=device)
    views = strided(step)
    written = step.written()
    assert_same_bits(views.call(), step.call())
    assert_same_bits(views.key_cache, written[0])
    assert_same_bits(views.value_cache, written[1])
    for view in (views.key_cache, views.value_cache):
        buffer = view._base
        assert buffer is not None
        view.fill_(7.0)
        assert (buffer == 7.0).all(), "written outside of the view"


def test_18_token_major_caches(device: torch.device) -> None:
    """A cache stored [batch, capacity, heads, dim] and handed over transposed."""
    step = make_step(position=70, heads=(4, 2), device=device)
    caches = [c.transpose(1, 2).contiguous().transpose(1, 2) for c in step.tensors()[3:]]
    views = Step(*step.tensors()[:3], *caches, step.position, step.masks)
    assert_same_bits(check_step(views), step.call())


def test_18_queries_and_new_keys_from_one_fused_buffer(device: torch.device) -> None:
    """GPT-2 hands over views of one [batch, tokens, 3 * width] buffer."""
    step = make_step(queries=3, position=70, heads=(2, 2), device=device)
    fused = torch.cat([t.transpose(1, 2).flatten(2) for t in step.tensors()[:3]], dim=2)
    views = [part.view(2, 3, 2, 16).transpose(1, 2) for part in fused.split(32, dim=2)]
    assert not views[0].is_contiguous()
    ours = Step(*views, *step.clone().tensors()[3:], step.position, step.masks)
    assert_same_bits(ours.call(), step.call())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chunks", [[20], [1] * 20, [8, 8, 4], [9, 11], [3, 1, 16]])
def test_chunks_equal_one_pass(chunks: list[int], dtype: torch.dtype, device: torch.device) -> None:
    """A sequence fed in pieces gives what one causal pass gives, within tolerance."""
    mask = key_mask("left", 2, 20, device)
    assert mask is not None
    whole = make_step(queries=20, position=0, capacity=20, dtype=dtype, device=device)
    q, k, v = whole.tensors()[:3]
    outs, position = [], 0
    for size in chunks:
        part = slice(position, position + size)
        outs.append(
            cached_attention(
                q[:, :, part],
                k[:, :, part],
                v[:, :, part],
                whole.key_cache,
                whole.value_cache,
                position=position,
                key_mask=mask[:, : position + size],
            )
        )
        position += size
    assert_attention_accurate(torch.cat(outs, dim=2), None, q, k, v, Masks(mask, causal=True))
    assert_same_bits(whole.key_cache, k)
    assert_same_bits(whole.value_cache, v)


@pytest.mark.parametrize("position", [-5, -1, 0, 3, 29, 30, 31, 1000, 2**40])
def test_35_36_position_on_the_device_is_clamped(position: int, device: torch.device) -> None:
    step = make_step(queries=2, position=30, capacity=32, garbage=0.5, device=device)
    step.position = min(max(position, 0), 30)
    written = step.written()
    expected = step.clone().call()
    assert_same_bits(step.call_device(torch.tensor(position, device=device)), expected)
    assert_same_bits(step.key_cache, written[0])
    assert_same_bits(step.value_cache, written[1])


def test_35_exact_capacity(device: torch.device) -> None:
    check_step(make_step(queries=3, position=29, capacity=32, device=device))
    check_step(make_step(queries=32, position=0, capacity=32, device=device))


@pytest.mark.parametrize(
    "empty",
    [{"batch": 0}, {"queries": 0}, {"heads": (0, 0)}, {"dims": (16, 0)}, {"dims": (0, 16)}],
    ids=case_id,
)
def test_20_empty_sizes(empty: dict[str, Any], device: torch.device) -> None:
    step = make_step(**empty, position=4, device=device)
    written = step.written()
    out = step.call()
    assert out.shape == (*step.query.shape[:3], step.new_value.shape[3])
    assert_same_bits(step.key_cache, written[0])
    assert_same_bits(step.value_cache, written[1])


def test_38_the_result_is_fresh_and_the_caches_know_they_changed(device: torch.device) -> None:
    step = make_step(device=device)
    before = step.key_cache._version, step.value_cache._version
    out = step.call()
    assert out._base is None
    assert step.key_cache._version > before[0]
    assert step.value_cache._version > before[1]
    kept = out.clone()
    step.position += 1
    step.call()
    assert_same_bits(out, kept)
