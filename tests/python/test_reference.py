"""``masked_attn.reference`` against the oracle of these tests, and against torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support import oracle
from support.accuracy import assert_all_zero, assert_same_bits, same_patterns
from support.cached import make_step
from support.cases import KEY_MASKS, MASK_SHAPES, Inputs, case_id, key_mask, make_inputs, rotate
from support.linear import ACTIVATIONS, make_layer
from support.oracle import Masks
from support.packed import make_packed
from support.scores import KINDS, of_row, score_options
from torch.nn.functional import scaled_dot_product_attention

import masked_attn
from masked_attn import masked_attention, reference

ROWS = rotate(
    80,
    seed=13,
    batch=(1, 2, 3),
    heads=((1, 1), (4, 2), (6, 1)),
    queries=(1, 2, 7, 20),
    keys=(1, 5, 20, 33),
    dims=((1, 1), (16, 16), (15, 33)),
    padding=KEY_MASKS,
    attn=("none", "bool", "float32", "float64"),
    attn_shape=MASK_SHAPES,
    causal=(False, True),
    window=(None, None, 1, 3, 12),
)


@pytest.mark.parametrize("row", ROWS, ids=case_id)
def test_attention_and_softmax_equal_the_oracle(row: dict[str, Any]) -> None:
    inputs = make_inputs(**row, dtype=torch.float64)
    out, logsumexp = inputs.call(reference.masked_attention)
    truth, truth_logsumexp = oracle.attention(*inputs.tensors(), inputs.masks)
    close(out, truth)
    close(logsumexp, truth_logsumexp)
    scores = torch.randn(row["batch"], row["heads"][0], row["queries"], row["keys"]).double()
    weights = reference.masked_softmax(scores, **inputs.masks.kwargs(), scale=0.3)
    close(weights, oracle.softmax(scores, inputs.masks, 0.3))
    seen = reference.visible(*scores.shape, **inputs.masks.kwargs())
    assert (seen.numpy() == oracle.seen_keys(tuple(scores.shape), inputs.masks)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS[:12], ids=case_id)
def test_softcap_sinks_and_slopes_equal_the_oracle(row: dict[str, Any], kind: str) -> None:
    inputs = make_inputs(**row, dtype=torch.float64)
    options = score_options(kind, row["batch"], row["heads"][0], dtype=torch.float64)
    inputs.masks.extra = options
    out, logsumexp = inputs.call(reference.masked_attention)
    truth, truth_logsumexp = oracle.attention(*inputs.tensors(), inputs.masks)
    close(out, truth)
    close(logsumexp, truth_logsumexp)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_cached_hand_on_what_changes_scores(kind: str) -> None:
    packed = make_packed(((5, 9), (0, 3), (7, 7)), heads=(4, 2), dtype=torch.float64, causal=True)
    options = score_options(kind, 3, 4, dtype=torch.float64)
    parts = packed.rows_of(*packed.call(reference.packed_attention, **options))
    for number, (row, ours) in enumerate(zip(packed.rows, parts, strict=True)):
        row.masks.extra = of_row(options, number)
        for mine, truth in zip(ours, oracle.attention(*row.tensors(), row.masks), strict=True):
            close(mine, truth)
    step = make_step(heads=(4, 2), queries=3, dtype=torch.float64)
    options = score_options(kind, 2, 4, dtype=torch.float64)
    seen = [cache[:, :, : step.end] for cache in step.written()]
    out = reference.cached_attention(*step.tensors(), position=step.position, **options)
    masks = Masks(causal=True, extra=options)
    close(out, oracle.attention(step.query, *seen, masks)[0])


def test_softcap_sinks_and_slopes_by_hand() -> None:
    """Two equal keys: a sink of log 2 takes half; a slope of log 3 leaves the farther a third."""
    query, key = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 2, 1)
    value = torch.tensor([8.0, 16.0]).view(1, 1, 2, 1)
    one = torch.ones(1)
    out, logsumexp = reference.masked_attention(query, key, value, sinks=one * math.log(2))
    assert out.item() == pytest.approx(6.0)
    assert logsumexp.item() == pytest.approx(math.log(2))
    out, _ = reference.masked_attention(query, key, value, alibi_slopes=one * math.log(3))
    assert out.item() == pytest.approx(8 / 4 + 16 * 3 / 4)
    out, logsumexp = reference.masked_attention(
        query + 10, key[:, :, :1] + 10, value[:, :, :1], softcap=2.0
    )
    assert logsumexp.item() == pytest.approx(2 * math.tanh(50))
    for sink, expected in ((-math.inf, 12.0), (math.inf, 0.0)):
        assert reference.masked_attention(query, key, value, sinks=one * sink)[0].item() == expected
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    for sink in (-math.inf, math.nan, math.inf):
        out, _ = reference.masked_attention(query, key, value, key_mask=nothing, sinks=one * sink)
        assert out.item() == 0


def close(ours: torch.Tensor, truth: np.ndarray) -> None:
    got = oracle.to_numpy(ours)
    same_patterns(got, truth.astype(np.float64))
    np.testing.assert_allclose(got, truth.astype(np.float64), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("query_length", [None, 1, 3, 9])
def test_expanded_mask_equals_the_oracle(query_length: int | None, causal: bool) -> None:
    for padding in KEY_MASKS[1:]:
        mask = key_mask(padding, 3, 7)
        assert mask is not None
        options: dict[str, Any] = {"causal": causal, "window": 4}
        ours = reference.expand_mask(
            mask.int(), dtype=torch.float32, query_length=query_length, fill=-5.0, **options
        )
        seen = oracle.seen_keys((3, 1, query_length or 7, 7), Masks(key_mask=mask, **options))
        assert (ours.numpy() == np.where(seen, 0.0, -5.0)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("queries", [1, 20])
def test_attention_equals_torch(queries: int, dtype: torch.dtype) -> None:
    """Where both mean the same: every row sees a key, and causal only with Q == K."""
    inputs = make_inputs(queries=queries, keys=20, dtype=dtype, attn="bool")
    inputs.masks.attn_mask[..., 0] = True  # type: ignore[index]
    out, _ = inputs.call(reference.masked_attention)
    rival = scaled_dot_product_attention(*inputs.tensors(), attn_mask=inputs.masks.attn_mask)
    torch.testing.assert_close(out, rival)
    plain = make_inputs(queries=20, keys=20, dtype=dtype, causal=True)
    rival = scaled_dot_product_attention(*plain.tensors(), is_causal=True)
    torch.testing.assert_close(plain.call(reference.masked_attention)[0], rival)


@pytest.mark.parametrize("queries", [1, 3, 9])
def test_cached_attention_writes_and_sees_what_it_should(queries: int) -> None:
    masks = Masks(key_mask("left", 2, 20 + queries), window=6)
    step = make_step(queries=queries, heads=(4, 2), dtype=torch.float64, masks=masks)
    key_cache, value_cache = step.written()
    out = reference.cached_attention(
        *step.tensors(), position=20, key_mask=masks.key_mask, window=6, scale=0.4
    )
    assert_same_bits(step.key_cache, key_cache)
    assert_same_bits(step.value_cache, value_cache)
    seen = key_cache[:, :, : step.end], value_cache[:, :, : step.end]
    causal = Masks(masks.key_mask, causal=True, window=6)
    close(out, oracle.attention(step.query, *seen, causal, 0.4)[0])


def test_packed_attention_by_hand() -> None:
    """Equal scores: each query gets the mean of what it sees; three sequences, one without keys."""
    key, value = torch.zeros(5, 1, 2), torch.tensor([1.0, 3.0, 10.0, 20.0, 60.0]).view(5, 1, 1)
    out, logsumexp = reference.packed_attention(
        torch.zeros(5, 1, 2),
        key,
        value,
        torch.tensor([0, 2, 3, 5]),
        cu_seqlens_k=torch.tensor([0, 2, 2, 5]),
        causal=True,
    )
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([1.0, 2.0, 0.0, 15.0, 30.0]))
    counts = torch.tensor([[1.0, 2.0, 0.0, 2.0, 3.0]])
    torch.testing.assert_close(logsumexp, counts.log())


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_equals_the_oracle(transposed: bool, activation: str | None) -> None:
    pair = torch.float64, torch.float64
    for rest in ({}, {"multiplier": True}, {"bias": False}):
        layer = make_layer(5, 30, 20, pair, transposed=transposed, activation=activation, **rest)
        x, matrix, bias, _, multiplier = layer.oracle_arguments()
        options: dict[str, Any] = {"transposed": transposed, "activation": activation}
        ours = reference.linear(x, layer.weight, bias, **options, multiplier=multiplier)
        close(ours, oracle.linear(x, matrix, bias, activation, multiplier))


def test_linear_by_hand() -> None:
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [-5.0, 0.0]])
    bias, factors = torch.tensor([1.0, 1.0]), torch.tensor([[10.0, 20.0]])
    sums = torch.tensor([[12.0, -4.0]])
    torch.testing.assert_close(reference.linear(x, weight, bias), sums)
    torch.testing.assert_close(reference.linear(x, weight.t(), bias, transposed=True), sums)
    relu = reference.linear(x, weight, bias, activation="relu", multiplier=factors)
    torch.testing.assert_close(relu, torch.tensor([[120.0, 0.0]]))
    silu = reference.linear(x, weight, bias, activation="silu")
    torch.testing.assert_close(
        silu, torch.tensor([[12 / (1 + math.exp(-12)), -4 / (1 + math.exp(4))]])
    )


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_03_masked_garbage_has_no_influence(garbage: float) -> None:
    inputs = make_inputs(queries=6, keys=20, padding="left", causal=True, dtype=torch.float64)
    hidden = ~inputs.masks.key_mask[:, None, :, None]  # type: ignore[index]
    expected, expected_logsumexp = inputs.call(reference.masked_attention)
    dirty = Inputs(
        inputs.query,
        inputs.key.masked_fill(hidden, garbage),
        inputs.value.masked_fill(hidden, garbage),
        inputs.masks,
    )
    out, logsumexp = dirty.call(reference.masked_attention)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(logsumexp, expected_logsumexp)


def test_04_visible_garbage_is_never_hidden() -> None:
    """Not even when the weight of the key underflows to 0."""
    inputs = make_inputs(queries=3, keys=20, dtype=torch.float64)
    inputs.value[:, :, 10] = math.nan
    far = torch.zeros(1, 1, 1, 20)
    assert inputs.call(reference.masked_attention, attn_mask=far)[0].isnan().all()
    far[..., 10] = -1e9
    assert inputs.call(reference.masked_attention, attn_mask=far)[0].isnan().all()
    hidden = torch.arange(20) != 10
    assert inputs.call(reference.masked_attention, attn_mask=hidden)[0].isfinite().all()


def test_01_empty_rows_are_zero() -> None:
    inputs = make_inputs(queries=3, keys=20, padding="empty_row", dtype=torch.float64)
    out, logsumexp = inputs.call(reference.masked_attention)
    assert_all_zero(out[0])
    assert (logsumexp[0] == -math.inf).all()
    assert out[1].count_nonzero() == out[1].numel()


def test_a_row_whose_visible_scores_are_all_minus_infinity_is_zero() -> None:
    """As in SDPA: the kernels and the reference agree on it."""
    query = torch.ones(1, 1, 9, 1)
    key = torch.full((1, 1, 9, 1), -math.inf)
    value = torch.ones(1, 1, 9, 1)
    for rows in (1, 9):
        ours, logsumexp = masked_attention(query[:, :, :rows], key, value, return_logsumexp=True)
        truth, _ = reference.masked_attention(query[:, :, :rows], key, value)
        assert_all_zero(ours)
        assert_all_zero(truth)
        assert (logsumexp == -math.inf).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(1, 5), (7, 5), (9, 20), (20, 9)], ids=str)
@pytest.mark.parametrize("window", [2**31, 2**62, 2**63 - 25, 2**63 - 1])
def test_25_a_window_near_the_largest_number_hides_nothing(
    window: int, sizes: tuple[int, int], causal: bool
) -> None:
    """In the reference, in every operator, and in the kernels' own plan."""
    queries, keys = sizes
    inputs = make_inputs(queries=queries, keys=keys, heads=(2, 2), dtype=torch.float64)
    tensors = inputs.tensors()
    for attend in (reference.masked_attention, masked_attention):
        plain = attend(*tensors, causal=causal)
        wide = attend(*tensors, causal=causal, window=window)
        assert_same_bits(first_of(wide), first_of(plain))
    scores = torch.randn(2, 2, queries, keys).double()
    mask = torch.ones(2, keys, dtype=torch.bool)
    options: dict[str, Any] = {"query_length": queries, "causal": causal, "dtype": torch.float32}
    for home in (reference, masked_attn):
        plain = home.masked_softmax(scores, causal=causal)
        assert_same_bits(home.masked_softmax(scores, causal=causal, window=window), plain)
        plain = home.expand_mask(mask, **options)
        assert_same_bits(home.expand_mask(mask, **options, window=window), plain)
    flat = [t[0].transpose(0, 1).contiguous() for t in tensors]
    lengths: dict[str, Any] = {
        "cu_seqlens": torch.tensor([0, queries]),
        "max_seqlen": queries,
        "cu_seqlens_k": torch.tensor([0, keys]),
        "max_seqlen_k": keys,
    }
    for home in (reference, masked_attn):
        plain = home.packed_attention(*flat, **lengths, causal=causal)
        wide = home.packed_attention(*flat, **lengths, causal=causal, window=window)
        assert_same_bits(first_of(wide), first_of(plain))


def first_of(result: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return result[0] if isinstance(result, tuple) else result
