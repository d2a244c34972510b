"""``flash_attn_varlen_func``, its stacked forms and its block table against the oracle."""

from __future__ import annotations

import pytest
import torch
from support import flash_oracle
from support.cases import DTYPES
from support.errors import says
from support.flash_oracle import Call, assert_near, tensors

from masked_attn.flash import (
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)

QUERIES = [3, 0, 9, 1, 5]
KEYS = [5, 2, 9, 7, 0]


def offsets(lengths, device="cpu", dtype=torch.int32):
    return torch.tensor([0, *lengths], device=device).cumsum(0).to(dtype)


def inputs(queries=QUERIES, keys=KEYS, **options):
    heads, heads_k = 4, 2
    return tensors((sum(queries), heads, 8), *[(sum(keys), heads_k, 8)] * 2, **options)


def lengths_of(queries, keys, device="cpu"):
    return (offsets(queries, device), offsets(keys, device), max(queries), max(keys))


def check(q, k, v, queries, keys, call):
    truth, truth_lse = flash_oracle.packed(q, k, v, queries, keys, call)
    lengths = lengths_of(queries, keys, q.device)
    out, lse, probabilities = flash_attn_varlen_func(
        q, k, v, *lengths, **call.kwargs(), return_attn_probs=True
    )
    assert out.dtype == q.dtype and out.is_contiguous() and probabilities is None
    assert_near(out, truth)
    assert_near(lse, truth_lse, q.dtype if q.dtype == torch.float64 else torch.float32)
    assert torch.equal(flash_attn_varlen_func(q, k, v, *lengths, **call.kwargs()), out)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [QUERIES, KEYS], ids=str)
def test_sequences_of_different_lengths(keys, causal, device):
    check(*inputs(keys=keys, device=device), QUERIES, keys, Call(causal=causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "window", [(0, 0), (2, 2), (2, 0), (0, 2), (3, 1), (1, 3), (2, -1), (-1, 2)], ids=str
)
def test_windows(window, causal):
    check(*inputs(), QUERIES, KEYS, Call(causal=causal, window_size=window))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype, device):
    check(*inputs(dtype=dtype, device=device), QUERIES, KEYS, Call(causal=True))


@pytest.mark.parametrize("window", [(-1, -1), (3, 1)], ids=str)
def test_softcap_and_scale(window):
    call = Call(causal=True, softcap=0.8, softmax_scale=0.9, window_size=window)
    check(*inputs(), QUERIES, KEYS, call)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (3, 1)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_alibi(causal, window, rows, device):
    slopes = torch.rand(5, 4, device=device) if rows else torch.rand(4, device=device)
    call = Call(causal=causal, window_size=window, alibi_slopes=slopes)
    check(*inputs(device=device), QUERIES, KEYS, call)


def test_stacked_tensors_are_the_same():
    queries = [3, 0, 5]
    (qkv,) = tensors((8, 3, 4, 8))
    cu, _, longest, _ = lengths_of(queries, queries)
    options = {"causal": True, "window_size": (3, 0)}
    expected = flash_attn_varlen_func(*qkv.unbind(1), cu, cu, longest, longest, **options)
    out = flash_attn_varlen_qkvpacked_func(qkv, cu, longest, **options)
    assert torch.equal(out, expected)
    out = flash_attn_varlen_kvpacked_func(
        qkv[:, 0], qkv[:, 1:], cu, cu, longest, longest, **options
    )
    assert torch.equal(out, expected)


def test_largest_lengths_may_be_tensors():
    """transformers hands on what it counted on the device."""
    q, k, v = inputs()
    cu_q, cu_k, most_q, most_k = lengths_of(QUERIES, KEYS)
    expected = flash_attn_varlen_func(q, k, v, cu_q, cu_k, most_q, most_k)
    out = flash_attn_varlen_func(q, k, v, cu_q, cu_k, torch.tensor(most_q), torch.tensor(most_k))
    assert torch.equal(out, expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 4, 256])
def test_block_table(size, causal, device):
    q, k, v = inputs(device=device)
    lengths = lengths_of(QUERIES, KEYS, device)
    expected = flash_attn_varlen_func(q, k, v, *lengths, causal=causal)
    table, k_pages, v_pages = in_blocks(k, v, KEYS, size)
    out = flash_attn_varlen_func(q, k_pages, v_pages, *lengths, causal=causal, block_table=table)
    assert torch.equal(out, expected)


def in_blocks(k, v, keys, size):
    """Blocks in no order, NaN in every slot that no sequence has, -1 for blocks it does not use."""
    needed = [-(-length // size) for length in keys]
    blocks = sum(needed) + 2
    order = torch.randperm(blocks).tolist()
    table = torch.full((len(keys), max(needed) + 1), -1, dtype=torch.int32)
    pages = [torch.full((blocks, size, *t.shape[1:]), float("nan")).to(t) for t in (k, v)]
    for row, (length, count) in enumerate(zip(keys, needed, strict=True)):
        begin = sum(keys[:row])
        for block in range(count):
            table[row, block] = order.pop()
            for slot in range(min(size, length - block * size)):
                for page, source in zip(pages, (k, v), strict=True):
                    page[table[row, block], slot] = source[begin + block * size + slot]
    return table.to(k.device), *pages


def test_59_wrong_offsets_are_refused_with_a_window_of_one_side_too():
    q, k, v = inputs()
    cu_q, cu_k, most_q, most_k = lengths_of(QUERIES, KEYS)
    options = {"window_size": (3, 1)}
    wrong = cu_k.clone()
    wrong[1] = 20
    with says("flash_attn_varlen_func", "cu_seqlens_k"):
        flash_attn_varlen_func(q, k, v, cu_q, wrong, most_q, most_k, **options)
    with says("flash_attn_varlen_func", "cu_seqlens_q", "9", "4"):
        flash_attn_varlen_func(q, k, v, cu_q, cu_k, 4, most_k, **options)
    with says("flash_attn_varlen_func", "cu_seqlens_k", "[batch + 1]"):
        flash_attn_varlen_func(q, k, v, cu_q, cu_k[:-1], most_q, most_k)
    with says("flash_attn_varlen_func", "cu_seqlens_q", "float32"):
        flash_attn_varlen_func(q, k, v, cu_q.float(), cu_k, most_q, most_k)


def test_wrong_blocks_are_refused():
    q, k, v = inputs()
    lengths = lengths_of(QUERIES, KEYS)
    table, k_pages, v_pages = in_blocks(k, v, KEYS, 4)
    for entry in (-1, k_pages.shape[0]):
        wrong = table.clone()
        wrong[2, 1] = entry
        with says("flash_attn_varlen_func", "block_table", str(entry)):
            flash_attn_varlen_func(q, k_pages, v_pages, *lengths, block_table=wrong)
    with says("flash_attn_varlen_func", "block_table has room for 4 tokens"):
        flash_attn_varlen_func(q, k_pages, v_pages, *lengths, block_table=table[:, :1])
