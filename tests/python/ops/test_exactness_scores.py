"""Equal bits with ``softcap``, ``sinks`` and ``alibi_slopes``: padding, batch, threads, caches.

Padding holds NaN everywhere, as in ``test_exactness.py``. Not causal, a query's pads change the
distance to keys of no row: it stands where it stood among its keys.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cached import make_step
from support.cases import DTYPES, Inputs, case_id, key_mask, rotate
from support.devices import DEVICES_AND_THREADS
from support.oracle import Masks
from support.padding import Row, batch_of, make_row, padded, real_part
from support.scores import KINDS, of_row, score_options

from masked_attn import masked_attention

PADS = ((1, 0), (0, 1), (3, 0), (63, 0), (64, 0), (65, 0), (0, 64), (37, 90), (129, 1))


def both(inputs: Inputs, options: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    out, logsumexp = inputs.call(masked_attention, return_logsumexp=True, **options)
    return out, logsumexp[..., None]


CASES = rotate(
    100,
    seed=44,
    kind=KINDS,
    length=(1, 2, 7, 8, 9, 16, 63, 64, 65, 129, 256, 257),
    pads=PADS,
    dtype=DTYPES,
    causal=(True, True, False),
    window=(None, None, 3, 64),
    dims=((16, 16), (64, 64), (80, 33)),
)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_32_a_prompt_padded_equals_alone(case: dict[str, Any], device: torch.device) -> None:
    row = make_row(case["length"], dims=case["dims"], dtype=case["dtype"], device=device)
    options = score_options(case["kind"], 1, 2, device=device)
    left, right = case["pads"]
    where = {"causal": case["causal"], "window": case["window"]}
    alone = both(row.inputs(**where), options)
    ours = both(padded(row, left, right, **where), options)
    for name, mine, expected in zip(("output", "logsumexp"), ours, alone, strict=True):
        assert_same_bits(real_part(mine, row, left), expected, name)


STEPS = rotate(
    60,
    seed=45,
    kind=KINDS,
    length=(1, 8, 9, 64, 65, 256, 257, 1025),
    queries=(1, 1, 2, 7, 8, 9),
    left=(1, 9, 64, 65, 300),
    dtype=DTYPES,
    dims=((16, 16), (64, 64)),
)


@pytest.mark.parametrize("case", STEPS, ids=case_id)
def test_32_few_queries_padded_equal_alone(case: dict[str, Any], device: torch.device) -> None:
    """The queries are the last positions, the padding lies before the keys."""
    names = ("queries", "dims", "dtype")
    row = make_row(case["length"], **{name: case[name] for name in names}, device=device)
    options = score_options(case["kind"], 1, 2, device=device)
    alone = both(row.inputs(causal=True), options)
    ours = both(padded(row, case["left"], 0, causal=True), options)
    for name, mine, expected in zip(("output", "logsumexp"), ours, alone, strict=True):
        assert_same_bits(real_part(mine, row, case["left"]), expected, name)


@pytest.mark.parametrize(("device", "threads"), DEVICES_AND_THREADS, indirect=["device"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_32_batch_equals_its_rows_alone(
    dtype: torch.dtype, kind: str, threads: int, device: torch.device
) -> None:
    lengths = (1, 8, 9, 65, 129, 260)
    rows: list[tuple[Row, int]] = []
    for number, length in enumerate(lengths):
        left = (0, 260 - length, (260 - length) // 2)[number % 3]
        rows.append((make_row(length, dtype=dtype, device=device, seed=number), left))
    options = score_options(kind, len(rows), 2, device=device)
    batch = batch_of(
        [padded(row, left, 260 - left - row.key.shape[2], causal=True) for row, left in rows]
    )
    torch.set_num_threads(1)
    alone = [both(row.inputs(True), of_row(options, n)) for n, (row, _) in enumerate(rows)]
    torch.set_num_threads(threads)
    ours = both(batch, options)
    for number, (row, left) in enumerate(rows):
        for mine, expected in zip(ours, alone[number], strict=True):
            assert_same_bits(real_part(mine[number : number + 1], row, left), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [1, 9])
def test_32_a_cache_gives_the_bits_of_its_keys(
    queries: int, kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    """cached_attention is masked_attention over the filled slots."""
    masks = Masks(key_mask("left", 2, 70 + queries), extra=score_options(kind, 2, 2))
    step = make_step(queries=queries, position=70, masks=masks, dtype=dtype, device=device)
    out = step.call()
    keys = (step.key_cache[:, :, : step.end], step.value_cache[:, :, : step.end])
    expected = masked_attention(
        step.query, *keys, key_mask=step.masks.key_mask, causal=True, **step.masks.extra
    )
    assert_same_bits(out, expected)
