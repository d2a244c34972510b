"""packed_attention: accuracy, and the bits of each sequence alone and in a padded batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.accuracy import assert_all_zero, assert_attention_accurate, assert_same_bits
from support.cases import DTYPES, HEAD_DIMS, case_id, rotate
from support.devices import DEVICES_AND_THREADS
from support.packed import Packed, make_packed
from torch import Tensor

from masked_attn import masked_attention, packed_attention, reference
from masked_attn.masks import packed_tokens, padding_mask

PROMPTS: tuple[tuple[int, ...], ...] = (
    (1,),
    (5, 0, 17, 0),
    (9, 8, 7, 1, 64, 65, 63),
    (130, 0, 3, 257, 1, 48),
    (2,) * 30,
    (0, 0),
    (),
    (514, 31),
)
# Keys that are more or fewer than queries, or none; few queries over many chunks of keys.
CROSS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((1, 600), (1, 30), (1, 257)),
    ((8, 257), (8, 0), (0, 5), (3, 512)),
    ((9, 8), (30, 70), (2, 300), (50, 9)),
    ((0, 0), (100, 100), (4, 1100), (12, 300)),
    ((20, 0), (1, 0)),
)
CASES = rotate(
    100,
    seed=31,
    lengths=(*PROMPTS, *CROSS),
    heads=((2, 2), (4, 2), (3, 1), (1, 1)),
    dims=((16, 16), (64, 64), (80, 33), (7, 128)),
    dtype=DTYPES,
    causal=(True, True, False),
    window=(None, None, 3, 70),
    scale=(None, None, 0.3),
    offset_dtype=(torch.int32, torch.int64),
)


def both(packed: Packed, **changes: Any) -> tuple[Tensor, Tensor]:
    out, logsumexp = packed.call(return_logsumexp=True, **changes)
    return out, logsumexp


def assert_equals_alone(packed: Packed) -> None:
    parts = packed.rows_of(*both(packed))
    scale = packed.options["scale"]
    for number, (row, ours) in enumerate(zip(packed.rows, parts, strict=True)):
        alone = row.call(masked_attention, scale=scale, return_logsumexp=True)
        for name, mine, expected in zip(("output", "logsumexp"), ours, alone, strict=True):
            assert_same_bits(mine, expected, f"{name} of sequence {number}")


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_32_each_sequence_has_the_bits_of_it_alone(
    case: dict[str, Any], device: torch.device
) -> None:
    assert_equals_alone(make_packed(**case, device=device))


@pytest.mark.parametrize("case", CASES[:40], ids=case_id)
def test_accuracy(case: dict[str, Any], device: torch.device) -> None:
    packed = make_packed(**case, device=device)
    out, logsumexp = both(packed)
    tokens, heads = packed.tensors[0].shape[:2]
    assert out.shape == (tokens, heads, packed.tensors[2].shape[2]) and out.is_contiguous()
    assert logsumexp.shape == (heads, tokens)
    assert_same_bits(packed.call(), out)
    for row, (mine, sums) in zip(packed.rows, packed.rows_of(out, logsumexp), strict=True):
        assert_attention_accurate(mine, sums, *row.tensors(), row.masks, case["scale"])


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_17_head_sizes(head_dim: int, device: torch.device) -> None:
    for dims in ((head_dim, head_dim), (head_dim, 24)):
        assert_equals_alone(make_packed((3, 70, 9), dims=dims, causal=True, device=device))


@pytest.mark.parametrize("kv_dtype", [torch.float16, torch.bfloat16], ids=str)
def test_keys_and_values_of_another_dtype(kv_dtype: torch.dtype, device: torch.device) -> None:
    assert_equals_alone(make_packed((3, 70, 9), kv_dtype=kv_dtype, causal=True, device=device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_32_equals_the_padded_batch(side: str, dtype: torch.dtype, device: torch.device) -> None:
    """Also: ``packed_tokens`` drops the pads, and puts them back."""
    mask = padding_mask(torch.tensor([5, 130, 0, 65, 8, 9]), padding_side=side).to(device)
    query, key, value = (torch.randn(6, 130, 3, 16).to(device, dtype) for _ in range(3))
    padded = [t.transpose(1, 2) for t in (query, key, value)]
    tokens = packed_tokens(mask)
    inside = [t.flatten(0, 1)[tokens.indices] for t in (query, key, value)]
    for causal, window in ((True, None), (False, None), (True, 20)):
        options: dict[str, Any] = {"causal": causal, "window": window, "return_logsumexp": True}
        out, sums = masked_attention(*padded, key_mask=mask, **options)
        ours, our_sums = packed_attention(*inside, *tokens[1:], **options)
        expected = out.transpose(1, 2).flatten(0, 1)[tokens.indices]
        assert_same_bits(ours, expected)
        assert_same_bits(our_sums, sums.transpose(0, 1).flatten(1)[:, tokens.indices])
        back = query.new_zeros(6 * 130, 3, 16).index_copy(0, tokens.indices, ours)
        assert_same_bits(back[tokens.indices], expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", [(40, 3, 9, 70), ((3, 300), (40, 40), (9, 8), (5, 20))])
def test_03_garbage_of_a_neighbour(lengths: Any, dtype: torch.dtype, device: torch.device) -> None:
    packed = make_packed(lengths, dtype=dtype, causal=True, device=device)
    expected = packed.rows_of(*both(packed))
    for dirty in range(4):
        spoiled = packed.with_tensors(torch.clone)
        counts = (packed.queries, packed.keys, packed.keys)
        for tensor, sizes in zip(spoiled.tensors, counts, strict=True):
            tensor.split(sizes)[dirty].fill_(math.nan)
        for number, ours in enumerate(spoiled.rows_of(*both(spoiled))):
            if number == dirty:
                assert ours[0].isnan().any()
                continue
            for mine, wanted in zip(ours, expected[number], strict=True):
                assert_same_bits(mine, wanted)


@pytest.mark.parametrize(("device", "threads"), DEVICES_AND_THREADS, indirect=["device"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_31_32_threads_change_no_bit(
    dtype: torch.dtype, threads: int, device: torch.device
) -> None:
    torch.set_num_threads(threads)
    lengths = (1, 8, 9, 64, 65, 100, 129, 260, 300, 2, 40, 77)
    assert_equals_alone(make_packed(lengths, heads=(4, 2), dtype=dtype, causal=True, device=device))
    assert_equals_alone(make_packed(CROSS[1] + CROSS[3], dtype=dtype, device=device))


def fused(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Slices of one [tokens, 3 * heads * dim] buffer, as the packed GPT-2 has them."""
    heads, dim = tensors[0].shape[1:]
    buffer = torch.cat([t.flatten(1) for t in tensors], dim=1)
    return [part.view(-1, heads, dim) for part in buffer.split(heads * dim, dim=1)]


def every_second(t: Tensor) -> Tensor:
    wide = t.new_empty(*t.shape[:-1], 2 * t.shape[-1])
    wide[..., ::2] = t
    return wide[..., ::2]


def heads_outside(t: Tensor) -> Tensor:
    return t.transpose(0, 1).contiguous().transpose(0, 1)


def odd_offset(t: Tensor) -> Tensor:
    return t.new_empty(t.numel() + 1)[1:].view(t.shape).copy_(t)


LAYOUTS: tuple[Callable[[tuple[Tensor, ...]], list[Tensor]], ...] = (
    fused,
    lambda tensors: [every_second(t) for t in tensors],
    lambda tensors: [heads_outside(t) for t in tensors],
    lambda tensors: [odd_offset(t) for t in tensors],
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", range(len(LAYOUTS)))
def test_18_19_layouts(layout: int, dtype: torch.dtype, device: torch.device) -> None:
    packed = make_packed((70, 3, 0, 130, 9), heads=(3, 3), dtype=dtype, causal=True, device=device)
    expected = both(packed)
    query, key, value = LAYOUTS[layout](packed.tensors)
    moved = packed_attention(query, key, value, **packed.kwargs(), return_logsumexp=True)
    for mine, wanted in zip(moved, expected, strict=True):
        assert_same_bits(mine, wanted)


def test_18_strides_of_zero_and_spread_offsets(device: torch.device) -> None:
    packed = make_packed((70, 3, 9), heads=(3, 1), causal=True, device=device)
    query, key, value = packed.tensors
    many = [t.expand(-1, 3, -1) for t in (key, value)]
    expected = packed.call()
    assert_same_bits(packed_attention(query, *many, **packed.kwargs()), expected)
    cu_seqlens = packed.kwargs()["cu_seqlens"]
    spread = torch.stack([cu_seqlens, cu_seqlens + 1], dim=1)[:, 0]
    assert_same_bits(packed.call(cu_seqlens=spread), expected)


def test_keys_of_their_own_that_are_as_many_as_queries(device: torch.device) -> None:
    packed = make_packed((70, 3, 0, 9), causal=True, device=device)
    expected = both(packed)
    kwargs = packed.kwargs()
    same = {"cu_seqlens_k": kwargs["cu_seqlens"].clone().int(), "max_seqlen_k": 70}
    for mine, wanted in zip(both(packed, **same), expected, strict=True):
        assert_same_bits(mine, wanted)


def test_maxima_may_be_larger_than_any_length(device: torch.device) -> None:
    for lengths in (PROMPTS[3], CROSS[3]):
        packed = make_packed(lengths, device=device)
        larger: dict[str, Any] = {"max_seqlen": 2**40}
        if packed.own_keys:
            larger["max_seqlen_k"] = 2**40
        assert_same_bits(packed.call(**larger), packed.call())


def test_01_queries_that_see_nothing(device: torch.device) -> None:
    """More queries than keys under causal masks, and sequences without keys."""
    packed = make_packed(((20, 5), (7, 0), (3, 2), (4, 4)), causal=True, device=device)
    out, logsumexp = both(packed)
    blind = torch.tensor([True] * 15 + [False] * 5 + [True] * 7 + [True] + [False] * 6)
    blind = blind.to(device)
    assert_all_zero(out[blind])
    assert (logsumexp[:, blind] == -math.inf).all() and logsumexp[:, ~blind].isfinite().all()


@pytest.mark.parametrize("lengths", [PROMPTS[3], CROSS[1], CROSS[3], (), (0, 0)])
def test_the_reference_agrees(lengths: Any, device: torch.device) -> None:
    packed = make_packed(lengths, heads=(4, 2), causal=True, window=40, device=device)
    double = packed.with_tensors(torch.Tensor.double)
    for mine, truth in zip(both(packed), double.call(reference.packed_attention), strict=True):
        assert mine.shape == truth.shape
        torch.testing.assert_close(mine.double(), truth, rtol=1e-5, atol=1e-5)


def test_a_control_other_offsets_give_another_result(device: torch.device) -> None:
    packed = make_packed((70, 30), device=device)
    moved = torch.tensor([0, 69, 100], device=device)
    assert not torch.equal(packed.call(cu_seqlens=moved), packed.call())
