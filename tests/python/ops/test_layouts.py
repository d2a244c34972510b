"""#18, #19: strides, expanded dimensions, odd offsets: the bits of a contiguous input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cases import DTYPES, Inputs, make_inputs
from support.oracle import Masks
from torch import Tensor

from masked_attn import masked_attention, masked_softmax


def heads_inside(t: Tensor) -> Tensor:
    """Stored [B, S, H, D], as projections give it."""
    return t.transpose(1, 2).contiguous().transpose(1, 2)


def last_two_swapped(t: Tensor) -> Tensor:
    """The last dimension is not contiguous."""
    return t.transpose(2, 3).contiguous().transpose(2, 3)


def every_second(t: Tensor) -> Tensor:
    buffer = t.new_empty(*t.shape[:-1], 2 * t.shape[-1])
    buffer[..., ::2] = t
    return buffer[..., ::2]


def slice_of_wider(t: Tensor) -> Tensor:
    buffer = t.new_empty(*(size + 3 for size in t.shape))
    view = buffer[tuple(slice(1, 1 + size) for size in t.shape)]
    return view.copy_(t)


def reversed_batch(t: Tensor) -> Tensor:
    """Outer dimensions stored in another order."""
    return t.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)


def odd_offset(t: Tensor) -> Tensor:
    """The first element stands one element after an aligned address."""
    buffer = t.new_empty(t.numel() + 1)
    return buffer[1:].view(t.shape).copy_(t)


LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (
    heads_inside,
    last_two_swapped,
    every_second,
    slice_of_wider,
    reversed_batch,
    odd_offset,
)


def full_inputs(dtype: torch.dtype, queries: int, device: torch.device) -> Inputs:
    return make_inputs(
        batch=3,
        heads=(4, 2),
        queries=queries,
        keys=70,
        dims=(24, 40),
        dtype=dtype,
        padding="left",
        attn="float32",
        attn_shape="BHQK",
        causal=True,
        device=device,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 8, 33])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_18_19_attention_layouts(
    layout: Callable[[Tensor], Tensor], queries: int, dtype: torch.dtype, device: torch.device
) -> None:
    inputs = full_inputs(dtype, queries, device)
    expected = inputs.call(masked_attention, return_logsumexp=True)
    mask = inputs.masks.attn_mask
    assert mask is not None
    for which in ("query", "key", "value", "attn_mask", "all"):
        tensors = [
            layout(t) if which in (name, "all") else t
            for name, t in zip(("query", "key", "value"), inputs.tensors(), strict=True)
        ]
        moved = layout(mask) if which in ("attn_mask", "all") else mask
        masks = Masks(inputs.masks.key_mask, moved, causal=True)
        ours = Inputs(*tensors, masks).call(masked_attention, return_logsumexp=True)
        assert_same_bits(ours[0], expected[0], which)
        assert_same_bits(ours[1], expected[1], which)


@pytest.mark.parametrize("queries", [1, 33])
def test_18_boolean_mask_layouts(queries: int, device: torch.device) -> None:
    masks = {"attn": "bool", "attn_shape": "BHQK", "padding": "holes"}
    inputs = make_inputs(batch=3, queries=queries, keys=70, **masks, device=device)
    expected = inputs.call(masked_attention)
    scores = torch.randn(3, 2, queries, 70).to(device)
    weights = masked_softmax(scores, **inputs.masks.kwargs())
    mask, keys = inputs.masks.attn_mask, inputs.masks.key_mask
    assert mask is not None and keys is not None
    key_layouts = (
        keys.t().contiguous().t(),
        torch.cat([keys, keys], 1)[:, :70],
        torch.stack([keys, ~keys], 2)[..., 0],
        torch.cat([keys[0, :1], keys.flatten()])[1:].view(3, 70),
    )
    for layout in LAYOUTS:
        assert_same_bits(inputs.call(masked_attention, attn_mask=layout(mask)), expected)
        ours = masked_softmax(scores, key_mask=keys, attn_mask=layout(mask))
        assert_same_bits(ours, weights)
    for moved in key_layouts:
        assert_same_bits(inputs.call(masked_attention, key_mask=moved), expected)
        ours = masked_softmax(scores, key_mask=moved, attn_mask=mask)
        assert_same_bits(ours, weights)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_18_19_softmax_layouts(
    layout: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device
) -> None:
    inputs = full_inputs(dtype, 33, device)
    scores = torch.randn(3, 4, 33, 70).to(device, dtype)
    expected = masked_softmax(scores, **inputs.masks.kwargs())
    mask = inputs.masks.attn_mask
    assert mask is not None
    for moved, bias in (
        (layout(scores), mask),
        (scores, layout(mask)),
        (layout(scores), layout(mask)),
    ):
        ours = masked_softmax(moved, key_mask=inputs.masks.key_mask, attn_mask=bias, causal=True)
        assert_same_bits(ours, expected)
        assert ours.is_contiguous()


@pytest.mark.parametrize("queries", [1, 8, 33])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_18_expanded_inputs(dim: int, queries: int, device: torch.device) -> None:
    """Stride 0 in any dimension of any input."""
    masks = {"padding": "left", "attn": "float32"}
    inputs = make_inputs(batch=2, queries=queries, keys=70, **masks, device=device)
    for which in ("query", "key", "value"):
        tensors = dict(zip(("query", "key", "value"), inputs.tensors(), strict=True))
        view = tensors[which].narrow(dim, 0, 1).expand_as(tensors[which])
        results = []
        for version in (view, view.contiguous()):
            tensors[which] = version
            results.append(masked_attention(**tensors, **inputs.masks.kwargs()))
        assert_same_bits(results[0], results[1], which)
    scores = torch.randn(2, 2, queries, 70).to(device).narrow(dim, 0, 1).expand(2, 2, queries, 70)
    assert_same_bits(masked_softmax(scores), masked_softmax(scores.contiguous()))


def test_18_expanded_key_mask(device: torch.device) -> None:
    row = torch.arange(70, device=device)[None] > 20
    column = torch.tensor([[True], [False], [True]], device=device)
    for mask in (row.expand(3, 70), column.expand(3, 70)):
        inputs = make_inputs(batch=3, queries=20, keys=70, device=device)
        assert_same_bits(
            inputs.call(masked_attention, key_mask=mask),
            inputs.call(masked_attention, key_mask=mask.contiguous()),
        )


@pytest.mark.parametrize("queries", [3, 33])
def test_18_views_of_one_fused_projection(queries: int, device: torch.device) -> None:
    """Query, key and value as GPT-2 cuts them from one [B, S, 3 * width] buffer."""
    fused = torch.randn(2, queries, 3 * 64).to(device)
    parts = [t.view(2, queries, 4, 16).transpose(1, 2) for t in fused.split(64, dim=2)]
    expected = masked_attention(*(t.contiguous() for t in parts), causal=True)
    assert_same_bits(masked_attention(*parts, causal=True), expected)


@pytest.mark.parametrize("queries", [1, 33])
def test_18_key_and_value_are_the_same_tensor(queries: int, device: torch.device) -> None:
    inputs = make_inputs(queries=queries, keys=70, device=device)
    out = masked_attention(inputs.query, inputs.key, inputs.key)
    assert_same_bits(out, masked_attention(inputs.query, inputs.key, inputs.key.clone()))


def test_29_negative_view(device: torch.device) -> None:
    """A tensor that torch stores negated (the imaginary part of a conjugate) is resolved first."""
    key, other = (torch.randn(1, 2, 9, 16).to(device) for _ in range(2))
    query = torch.complex(torch.zeros_like(other), other).conj().imag
    assert query.is_neg()
    expected = masked_attention(query.resolve_neg().contiguous(), key, key)
    assert_same_bits(masked_attention(query, key, key), expected)
