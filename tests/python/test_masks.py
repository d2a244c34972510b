"""Helpers around the 0/1 padding mask."""

from __future__ import annotations

import pytest
import torch

from masked_attn.masks import packed_tokens, padding_mask, positions_from_mask, real_lengths

LENGTHS = torch.tensor([5, 8, 3, 0])


def test_left_padding() -> None:
    assert padding_mask(LENGTHS).int().tolist() == [
        [0, 0, 0, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_right_padding_to_a_total() -> None:
    mask = padding_mask(torch.tensor([2, 0, 4]), total=5, padding_side="right")
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]]


def test_no_rows_and_no_tokens() -> None:
    assert padding_mask(torch.zeros(0, dtype=torch.int64)).shape == (0, 0)
    assert padding_mask(torch.zeros(3, dtype=torch.int64)).shape == (3, 0)
    assert padding_mask(torch.zeros(0, dtype=torch.int64), total=4).shape == (0, 4)


@pytest.mark.parametrize("side", ["middle", "Left", ""])
def test_unknown_side(side: str) -> None:
    with pytest.raises(ValueError, match="padding_side must be 'left' or 'right', got"):
        padding_mask(LENGTHS, padding_side=side)


def test_row_longer_than_the_total() -> None:
    with pytest.raises(ValueError, match="a row of 8 tokens does not fit into total = 7"):
        padding_mask(LENGTHS, total=7)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float32], ids=str)
def test_positions_count_real_tokens_only(dtype: torch.dtype) -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]]).to(
        dtype
    )
    positions = positions_from_mask(mask)
    assert positions.dtype == torch.int64
    assert positions.tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 0, 0], [0, 0, 1, 0, 2], [0] * 5]


@pytest.mark.parametrize("side", ["left", "right"])
def test_lengths_of_a_padding_mask_come_back(side: str) -> None:
    mask = padding_mask(LENGTHS, total=11, padding_side=side)
    assert real_lengths(mask).tolist() == LENGTHS.tolist()
    assert real_lengths(mask.long() * 3).tolist() == LENGTHS.tolist()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32], ids=str)
def test_packed_tokens_of_any_pattern(dtype: torch.dtype) -> None:
    mask = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]]).to(dtype)
    indices, cu_seqlens, max_seqlen = packed_tokens(mask)
    assert indices.tolist() == [1, 2, 6, 8, 9, 10, 11]
    assert cu_seqlens.tolist() == [0, 2, 2, 4, 7] and cu_seqlens.dtype == torch.int64
    assert max_seqlen == 3
    assert torch.arange(12).view(4, 3)[mask != 0].tolist() == indices.tolist()


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_packed_tokens_of_nothing(shape: tuple[int, int]) -> None:
    indices, cu_seqlens, max_seqlen = packed_tokens(torch.zeros(shape))
    assert indices.shape == (0,) and max_seqlen == 0
    assert cu_seqlens.tolist() == [0] * (shape[0] + 1)
