"""Token ids of prompts: whether a model can hold them, and one padded rectangle of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["NO_TOKENS", "left_pad", "misfit"]

NO_TOKENS = "gives no tokens: its mask would be all zero"


def misfit(row: Sequence[int], max_new_tokens: int, positions: int, vocabulary: int) -> str:
    """Why the model cannot hold a prompt; empty when it can.

    Args:
        row: token ids of the prompt.
        max_new_tokens: tokens that may be added to it.
        positions: length of the model's context, in tokens.
        vocabulary: number of tokens that the model knows.

    Example:
        >>> misfit([5, 6], max_new_tokens=0, positions=1, vocabulary=9)
        "is too long: 2 tokens, the model's limit is 1"
    """
    if not row:
        return NO_TOKENS
    total = len(row) + max_new_tokens
    if total > positions:
        added = f" + {max_new_tokens} new ones = {total}" if max_new_tokens else ""
        return f"is too long: {len(row)} tokens{added}, the model's limit is {positions}"
    if max(row) >= vocabulary:
        return (
            f"holds token {max(row)}, the model knows {vocabulary}: "
            "the tokenizer is not the model's own"
        )
    return ""


def left_pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """One rectangle of token ids, padded on the left, and its mask.

    Args:
        rows: token ids of each prompt, at least one each.
        pad_id: id that fills up.

    Returns:
        ``input_ids`` and ``attention_mask``, both ``[batch, longest]`` int64; 1 = real token.

    Example:
        >>> left_pad([[5], [6, 7]], pad_id=0)
        (tensor([[0, 5],
                [6, 7]]), tensor([[0, 1],
                [1, 1]]))
    """
    longest = max(len(row) for row in rows)
    pads = [longest - len(row) for row in rows]
    ids = [[pad_id] * pad + list(row) for pad, row in zip(pads, rows, strict=True)]
    mask = [[0] * pad + [1] * len(row) for pad, row in zip(pads, rows, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)
