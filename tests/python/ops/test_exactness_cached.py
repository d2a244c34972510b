"""``cached_attention``: a padded row of a batch decodes to the same bits as the row alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.accuracy import assert_all_zero, assert_same_bits
from support.cached import Step, make_step
from support.cases import DTYPES, case_id, key_mask, rotate
from support.devices import DEVICES_AND_THREADS
from support.oracle import Masks
from support.padding import pad
from torch import Tensor


def padded_step(step: Step, left: int, spare: int, garbage: float = math.nan) -> Step:
    """The same step with ``left`` masked slots before it and ``spare`` more capacity."""
    caches = (pad(cache, 2, left, spare, garbage) for cache in step.tensors()[3:])
    shape = step.query.shape[0], left + step.end
    mask = torch.ones(shape, dtype=torch.bool, device=step.query.device)
    mask[:, :left] = False
    masks = Masks(key_mask=mask, window=step.masks.window)
    return Step(*step.tensors()[:3], *caches, step.position + left, masks)


CASES = rotate(
    90,
    seed=12,
    position=(
        0,
        1,
        6,
        7,
        8,
        9,
        55,
        62,
        63,
        64,
        65,
        127,
        128,
        255,
        256,
        511,
        512,
        513,
        1023,
        1024,
        2050,
    ),
    queries=(1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20),
    left=(1, 7, 63, 64, 65, 300),
    spare=(0, 1, 64),
    dtype=DTYPES,
    window=(None, None, None, 50),
    dims=((16, 16), (64, 64), (33, 80)),
)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_32_padded_step_equals_alone(case: dict[str, Any], device: torch.device) -> None:
    options = {name: case[name] for name in ("queries", "position", "dtype", "dims")}
    masks = Masks(window=case["window"])
    step = make_step(**options, batch=1, heads=(2, 1), masks=masks, device=device)
    ours = padded_step(step.clone(), case["left"], case["spare"])
    on_device = ours.clone()
    expected = step.call()
    assert expected.isfinite().all()
    assert_same_bits(ours.call(), expected)
    assert_same_bits(on_device.call_device(), expected, "position on the device")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("device", "threads"), DEVICES_AND_THREADS, indirect=["device"])
@pytest.mark.parametrize("queries", [1, 5, 8, 12])
def test_32_batch_equals_its_rows_alone(
    queries: int, threads: int, dtype: torch.dtype, device: torch.device
) -> None:
    lengths, longest = (1, 7, 30, 64, 65, 200, 513), 513
    torch.set_num_threads(1)
    alone, parts = [], []
    for seed, length in enumerate(lengths):
        step = make_step(
            batch=1,
            heads=(4, 2),
            queries=queries,
            position=length,
            capacity=length + queries,
            dtype=dtype,
            device=device,
            seed=seed,
        )
        parts.append(padded_step(step.clone(), longest - length, 3))
        alone.append(step.call())
    together = zip(*(part.tensors() for part in parts), strict=True)
    mask = torch.cat([p.masks.key_mask for p in parts if p.masks.key_mask is not None])
    batch = Step(*(torch.cat(t) for t in together), parts[0].position, Masks(key_mask=mask))
    on_device = batch.clone()
    torch.set_num_threads(threads)
    for out in (batch.call(), on_device.call_device()):
        for number, expected in enumerate(alone):
            assert_same_bits(out[number : number + 1], expected, f"row {number}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 9])
def test_03_garbage_in_the_cache(queries: int, dtype: torch.dtype, device: torch.device) -> None:
    """Unwritten slots and masked slots may hold anything."""
    end = 90 + queries
    for padding in ("left", "holes", "right"):
        masks = Masks(key_mask=key_mask(padding, 3, end, device))
        hidden = pad(~masks.key_mask[:, None, :, None], 2, 0, 5, True)  # type: ignore[index]
        results: list[Tensor] = []
        for garbage in (0.0, math.nan, math.inf, -math.inf):
            options = {"queries": queries, "masks": masks, "garbage": garbage}
            step = make_step(batch=3, position=90, **options, dtype=dtype, device=device)
            for cache in (step.key_cache, step.value_cache):
                cache.masked_fill_(hidden, garbage)
            other = step.clone()
            results += [step.call(), other.call_device()]
        for result in results:
            assert_same_bits(result, results[0])


def test_01_a_row_that_sees_nothing_is_exactly_zero(device: torch.device) -> None:
    for queries in (1, 8, 9):
        mask = torch.ones(3, 40 + queries, dtype=torch.bool)
        mask[1] = False
        masks = Masks(key_mask=mask)
        step = make_step(batch=3, queries=queries, position=40, masks=masks, device=device)
        written = step.written()
        out = step.call()
        assert_all_zero(out[1])
        assert out[[0, 2]].count_nonzero() == out[[0, 2]].numel()
        assert_same_bits(step.key_cache, written[0], "a masked row is written all the same")


@pytest.mark.parametrize("queries", [1, 9])
def test_31_repeated_runs_are_equal(queries: int, device: torch.device) -> None:
    torch.set_num_threads(2)
    masks = Masks(key_mask=key_mask("left", 4, 300 + queries))
    step = make_step(batch=4, queries=queries, position=300, masks=masks, device=device)
    first = step.call()
    for _ in range(100):
        assert_same_bits(step.call(), first)
