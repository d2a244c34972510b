"""Pads out and back: against plain loops over rows."""

from __future__ import annotations

import pytest
import torch

from masked_attn.flash.bert_padding import (
    index_first_axis,
    index_put_first_axis,
    pad_input,
    unpad_input,
)

MASK = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_there_and_back(shape, dtype):
    x = torch.randn(4, 4, *shape)
    tokens, indices, cu_seqlens, longest, used = unpad_input(x, MASK.to(dtype))
    expected = [x[b, s] for b in range(4) for s in range(4) if MASK[b, s]]
    assert torch.equal(tokens, torch.stack(expected))
    assert indices.tolist() == [4 * b + s for b in range(4) for s in range(4) if MASK[b, s]]
    assert cu_seqlens.tolist() == [0, 3, 5, 5, 9] and cu_seqlens.dtype == torch.int32
    assert longest == 4 and isinstance(longest, int)
    assert used.tolist() == [3, 2, 0, 4] and used.dtype == torch.int32
    back = pad_input(tokens, indices, 4, 4)
    assert torch.equal(back, x * MASK.reshape(4, 4, *[1] * len(shape)))


def test_room_that_is_not_used_is_kept():
    unused = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    tokens, _, cu_seqlens, longest, used = unpad_input(torch.randn(4, 4, 2), MASK, unused)
    assert cu_seqlens.tolist() == [0, 4, 6, 8, 12] and len(tokens) == 12 and longest == 4
    assert used.tolist() == [3, 2, 0, 4]


def test_gradients_pass():
    x = torch.randn(4, 4, 3, requires_grad=True)
    tokens, indices, *_ = unpad_input(x, MASK)
    weight = torch.randn(4, 4, 3)
    (pad_input(tokens, indices, 4, 4) * weight).sum().backward()
    assert torch.equal(x.grad, weight * MASK[..., None])


def test_rows_of_the_first_axis():
    x, indices = torch.randn(6, 2, 3), torch.tensor([4, 0, 4])
    rows = index_first_axis(x, indices)
    assert torch.equal(rows, torch.stack([x[4], x[0], x[4]]))
    put = index_put_first_axis(rows[:2], indices[:2], 6)
    assert torch.equal(put[4], x[4]) and torch.equal(put[0], x[0])
    assert not put[[1, 2, 3, 5]].count_nonzero()
