"""Small helpers around the 0/1 padding mask that a tokenizer gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PackedTokens", "packed_tokens", "padding_mask", "positions_from_mask", "real_lengths"]


def padding_mask(
    lengths: Tensor, *, total: int | None = None, padding_side: str = "left"
) -> Tensor:
    """Build the 0/1 mask of a padded batch from the lengths of its rows.

    Args:
        lengths: ``[batch]`` integer, number of real tokens of each row.
        total: padded length; ``None`` means the longest row.
        padding_side: ``"left"`` or ``"right"``.

    Returns:
        ``[batch, total]`` bool, True = real token.

    Raises:
        ValueError: ``padding_side`` is neither, or a row is longer than ``total``.

    Example:
        >>> padding_mask(torch.tensor([1, 3])).int()
        tensor([[0, 0, 1],
                [1, 1, 1]], dtype=torch.int32)
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side must be 'left' or 'right', got {padding_side!r}")
    longest = int(lengths.max()) if lengths.numel() else 0
    total = longest if total is None else total
    if longest > total:
        raise ValueError(f"a row of {longest} tokens does not fit into total = {total}")
    slots = torch.arange(total, device=lengths.device)[None, :]
    if padding_side == "left":
        return slots >= (total - lengths)[:, None]
    return slots < lengths[:, None]


def positions_from_mask(mask: Tensor) -> Tensor:
    """Position of each token among the real tokens of its row; pads get 0.

    Args:
        mask: ``[batch, keys]`` bool or 0/1, nonzero = real token.

    Returns:
        ``[batch, keys]`` int64: ``cumsum(mask) - 1``, as ``generate`` of transformers builds it.

    Example:
        >>> positions_from_mask(torch.tensor([[0, 0, 1, 1]]))
        tensor([[0, 0, 0, 1]])
    """
    real = mask != 0
    return (real.long().cumsum(-1) - 1).masked_fill(~real, 0)


def real_lengths(mask: Tensor) -> Tensor:
    """Number of real tokens of each row: ``[batch, keys]`` -> ``[batch]`` int64.

    Example:
        >>> real_lengths(torch.tensor([[0, 1, 1], [1, 1, 1]]))
        tensor([2, 3])
    """
    return (mask != 0).sum(-1)


class PackedTokens(NamedTuple):
    """Where the real tokens of a padded batch are, and where each row begins without the pads."""

    indices: Tensor
    cu_seqlens: Tensor
    max_seqlen: int


def packed_tokens(mask: Tensor) -> PackedTokens:
    """What it takes to drop the pads of a batch, and to put them back.

    The number of real tokens depends on the mask, so on CUDA this waits for the device.

    Args:
        mask: ``[batch, keys]`` bool or 0/1, nonzero = real token; any pattern.

    Returns:
        ``indices``: ``[tokens]`` int64, the real tokens in the flattened ``[batch * keys]``;
        ``cu_seqlens``: ``[batch + 1]`` int64, as ``packed_attention`` takes it;
        ``max_seqlen``: the length of the longest row.

    Example:
        >>> mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
        >>> packed_tokens(mask)
        PackedTokens(indices=tensor([1, 2, 3, 4, 5]), cu_seqlens=tensor([0, 2, 5]), max_seqlen=3)
    """
    lengths = real_lengths(mask)
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    longest = int(lengths.max()) if lengths.numel() else 0
    return PackedTokens(mask.flatten().nonzero()[:, 0], cu_seqlens, longest)
