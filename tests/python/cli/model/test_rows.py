"""Token ids of prompts in one rectangle."""

from __future__ import annotations

import torch

from masked_attn.cli.model.rows import left_pad


def test_rows_are_padded_on_the_left() -> None:
    ids, mask = left_pad([[4, 5, 6], [7]], pad_id=9)
    assert torch.equal(ids, torch.tensor([[4, 5, 6], [9, 9, 7]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [0, 0, 1]]))
