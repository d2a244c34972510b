"""``flash_attn_func`` and its stacked forms against the oracle."""

from __future__ import annotations

import itertools

import pytest
import torch
from support import flash_oracle
from support.cases import DTYPES
from support.flash_oracle import Call, assert_near, tensors

from masked_attn.flash import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
)

SIZES = [(1, 1), (1, 7), (7, 1), (5, 5), (2, 5), (5, 2), (9, 17), (17, 9)]
REACHES = (-1, 0, 1, 3, 20)


def check(q, k, v, call):
    truth, truth_lse = flash_oracle.batch(q, k, v, call)
    out, lse, probabilities = flash_attn_func(q, k, v, **call.kwargs(), return_attn_probs=True)
    assert out.dtype == q.dtype and out.is_contiguous()
    assert_near(out, truth)
    assert_near(lse, truth_lse, q.dtype if q.dtype == torch.float64 else torch.float32)
    assert probabilities is None
    unseen = torch.isneginf(truth_lse).transpose(1, 2)
    assert not out.cpu()[unseen].count_nonzero()
    assert torch.equal(flash_attn_func(q, k, v, **call.kwargs()), out)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), SIZES)
def test_causal_is_bottom_right(queries, keys, causal, device):
    q, k, v = tensors((2, queries, 4, 8), *[(2, keys, 2, 8)] * 2, device=device)
    check(q, k, v, Call(causal=causal))


def test_the_documented_causal_masks():
    """2 queries and 5 keys, 5 queries and 2 keys: the two examples of flash-attn's docstring."""
    for queries, keys, seen in (
        (2, 5, [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
        (5, 2, [[0, 0], [0, 0], [0, 0], [1, 0], [1, 1]]),
    ):
        q, k = torch.zeros(1, queries, 1, 8), torch.zeros(1, keys, 1, 8)
        out = flash_attn_func(q, k, torch.eye(keys)[None, :, None], causal=True)[0, :, 0]
        mask = torch.tensor(seen, dtype=torch.float32)
        torch.testing.assert_close(out, mask / mask.sum(-1, keepdim=True).clamp(min=1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [*itertools.product(REACHES, REACHES)], ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(1, 7), (5, 5), (4, 9), (9, 4)])
def test_windows(queries, keys, window, causal):
    q, k, v = tensors((1, queries, 2, 8), *[(1, keys, 2, 8)] * 2)
    check(q, k, v, Call(causal=causal, window_size=window))


@pytest.mark.parametrize("heads_k", [1, 2, 6])
def test_grouped_heads(heads_k, device):
    q, k, v = tensors((2, 5, 6, 8), *[(2, 7, heads_k, 8)] * 2, device=device)
    check(q, k, v, Call(causal=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_dtypes(causal, dtype, device):
    q, k, v = tensors((2, 9, 4, 16), *[(2, 9, 2, 16)] * 2, dtype=dtype, device=device)
    check(q, k, v, Call(causal=causal))


def test_scale_and_value_dim():
    q, k, v = tensors((1, 5, 2, 8), (1, 6, 2, 8), (1, 6, 2, 12))
    check(q, k, v, Call(softmax_scale=0.7))


@pytest.mark.parametrize("softcap", [0.5, 30.0])
def test_softcap(softcap, device):
    q, k, v = tensors((2, 5, 4, 8), *[(2, 9, 2, 8)] * 2, device=device)
    check(3 * q, k, v, Call(causal=True, softcap=softcap))


def test_a_softcap_of_zero_or_less_is_none():
    q, k, v = tensors(*[(1, 5, 2, 8)] * 3)
    assert torch.equal(flash_attn_func(q, k, v, softcap=-1.0), flash_attn_func(q, k, v))


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (3, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (5, 5), (4, 9), (9, 4)])
def test_alibi(queries, keys, causal, window, rows, device):
    q, k, v = tensors((2, queries, 4, 8), *[(2, keys, 2, 8)] * 2, device=device)
    slopes = torch.rand(2, 4, device=device) if rows else torch.rand(4, device=device)
    check(q, k, v, Call(causal=causal, window_size=window, alibi_slopes=slopes))


def test_stacked_tensors_are_the_same(device):
    (qkv,) = tensors((2, 7, 3, 4, 8), device=device)
    options = {"causal": True, "window_size": (3, 0), "softmax_scale": 0.3}
    q, k, v = qkv.unbind(2)
    expected = flash_attn_func(q, k, v, **options)
    assert torch.equal(flash_attn_qkvpacked_func(qkv, **options), expected)
    assert torch.equal(flash_attn_kvpacked_func(q, qkv[:, :, 1:], **options), expected)
    out, lse, _ = flash_attn_qkvpacked_func(qkv, **options, return_attn_probs=True)
    assert torch.equal(out, expected) and lse.shape == (2, 4, 7)


def test_strided_tensors_are_read_in_place():
    q, k, v = tensors(*[(2, 4, 7, 8)] * 3)
    views = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    copies = [view.contiguous() for view in views]
    assert torch.equal(flash_attn_func(*views), flash_attn_func(*copies))


def test_arguments_that_change_nothing():
    q, k, v = tensors(*[(1, 5, 2, 8)] * 3)
    expected = flash_attn_func(q, k, v)
    assert torch.equal(flash_attn_func(q, k, v, deterministic=True), expected)
    assert torch.equal(flash_attn_func(q, k, v, window_size=torch.tensor([-1, -1])), expected)
    assert torch.equal(flash_attn_func(q, k, v, 0.0, None, False, [-1, -1], 0.0, None), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2, 8), (1, 0, 2, 8)])
def test_nothing_to_do(shape):
    (q,) = tensors(shape)
    assert flash_attn_func(q, q, q).shape == shape


def test_no_key_is_zeros():
    q, k = torch.ones(1, 3, 2, 8), torch.ones(1, 0, 2, 8)
    out, lse, _ = flash_attn_func(q, k, k, return_attn_probs=True)
    assert not out.count_nonzero() and torch.isneginf(lse).all()
