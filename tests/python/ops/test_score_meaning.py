"""What ``softcap``, ``sinks`` and ``alibi_slopes`` mean, in eager lines that others use."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.accuracy import assert_all_zero, assert_same_bits
from support.cases import DTYPES, Inputs, make_inputs
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from masked_attn import masked_attention

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13, torch.bfloat16: 2e-2, torch.float16: 2e-3}
QUERIES = (1, 8, 9, 70)


def small(dtype: torch.dtype, device: torch.device, queries: int, **options: Any) -> Inputs:
    """70 keys, left padding; queries see their own place at least."""
    options = {"heads": (4, 2), "keys": 70, "padding": "left", "causal": True, **options}
    return make_inputs(queries=queries, **options, dtype=dtype, device=device)


def scores_of(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """float64 scores [B, H, Q, K] without masks, and who sees whom."""
    query, key, _ = (t.double() for t in inputs.tensors())
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
    queries, keys = scores.shape[2:]
    seen = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    assert inputs.masks.key_mask is not None
    return scores, seen & inputs.masks.key_mask[:, None, None, :]


def close(ours: Tensor, weights: Tensor, inputs: Inputs) -> None:
    value = inputs.value.double().repeat_interleave(2, dim=1)
    seen = scores_of(inputs)[1].any(-1)
    expected = torch.where(seen[..., None], weights.nan_to_num() @ value, 0)
    tolerance = TOLERANCE[ours.dtype]
    torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", QUERIES)
def test_softcap_is_tanh_before_the_mask(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    """As in Gemma 2: scale, divide, tanh, multiply, then the mask."""
    inputs = small(dtype, device, queries)
    scores, seen = scores_of(inputs)
    for softcap in (0.5, 3.0, 50.0):
        capped = torch.tanh(scores / softcap) * softcap
        weights = capped.masked_fill(~seen, -math.inf).softmax(-1)
        close(inputs.call(masked_attention, softcap=softcap), weights, inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", QUERIES)
def test_a_sink_is_one_more_logit_that_is_dropped(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    """As in gpt-oss: concatenate, softmax, drop the last column."""
    inputs = small(dtype, device, queries)
    scores, seen = scores_of(inputs)
    for sinks in ([0.0] * 4, [-3.0, 0.5, 4.0, 20.0], [-1000.0, 1000.0, 88.0, -88.0]):
        column = torch.tensor(sinks, device=device).double()[None, :, None, None]
        both = torch.cat(
            [scores.masked_fill(~seen, -math.inf), column.expand(*scores.shape[:3], 1)], dim=-1
        )
        weights = both.softmax(-1)[..., :-1]
        given = torch.tensor(sinks, device=device)
        close(inputs.call(masked_attention, sinks=given), weights, inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", QUERIES)
def test_alibi_is_a_bias_of_distance(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Against a dense bias in torch's own attention, causal and not."""
    slopes = torch.tensor([2.0**-n for n in (1, 3, 5, 8)], device=device)
    for causal in (True, False):
        inputs = small(dtype, device, queries, causal=causal)
        query, key, value = (t.double() for t in inputs.tensors())
        place = torch.arange(70 - queries, 70, device=device)[:, None]
        distance = (place - torch.arange(70, device=device)).abs()
        bias = -slopes[:, None, None].double() * distance
        assert inputs.masks.key_mask is not None
        seen = inputs.masks.key_mask[:, None, None, :]
        if causal:
            seen = seen & (torch.arange(70, device=device) <= place)
        bias = bias.masked_fill(~seen, -math.inf)
        expected = scaled_dot_product_attention(query, key, value, attn_mask=bias, enable_gqa=True)
        expected = torch.where(seen.any(-1)[..., None], expected.nan_to_num(), 0)
        ours = inputs.call(masked_attention, alibi_slopes=slopes)
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", QUERIES)
def test_the_logsumexp_is_that_of_the_keys_alone(
    queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    """``out_without_sinks * sigmoid(logsumexp - sink) == out``, and equal bits of ``logsumexp``."""
    inputs = small(dtype, device, queries)
    sinks = torch.tensor([-2.0, 0.0, 1.0, 9.0], device=device)
    plain, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
    ours, same = inputs.call(masked_attention, sinks=sinks, return_logsumexp=True)
    assert_same_bits(same, logsumexp)
    left = torch.sigmoid(logsumexp.double() - sinks[:, None])[..., None]
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(ours.double(), plain.double() * left, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", QUERIES)
def test_sinks_at_the_ends(queries: int, dtype: torch.dtype, device: torch.device) -> None:
    """-inf is no sink, +inf takes everything, NaN shows where something is seen."""
    inputs = small(dtype, device, queries, padding="empty_row", heads=(2, 2))
    plain = inputs.call(masked_attention)
    assert inputs.masks.key_mask is not None
    empty = ~scores_of(inputs)[1].any(-1).expand(2, 2, queries)
    for sink in (-math.inf, math.inf, math.nan, torch.finfo(torch.float32).max):
        sinks = torch.tensor([sink, 0.0], device=device)
        out, logsumexp = inputs.call(masked_attention, sinks=sinks, return_logsumexp=True)
        assert_all_zero(out[empty])
        assert (logsumexp[empty] == -math.inf).all()
        first = out[:, 0]
        if sink == -math.inf:
            assert_same_bits(first, plain[:, 0])
        elif math.isnan(sink):
            assert first[~empty[:, 0]].isnan().all() and not out[:, 1].isnan().any()
        else:
            assert_all_zero(first)


def test_what_bends_nothing_changes_little(device: torch.device) -> None:
    """A wide cap, slopes of 0, a sink far below: the same attention; a narrow cap is another."""
    inputs = small(torch.float32, device, 9)
    plain = inputs.call(masked_attention)
    zeros = torch.zeros(4, device=device)
    for name, value in (("softcap", 1e6), ("alibi_slopes", zeros), ("sinks", zeros - 100)):
        torch.testing.assert_close(inputs.call(masked_attention, **{name: value}), plain)
    for name, value in (("softcap", 0.1), ("alibi_slopes", zeros + 1), ("sinks", zeros + 4)):
        assert (inputs.call(masked_attention, **{name: value}) - plain).abs().max() > 0.05
