"""Caches in blocks: which slot holds a token, and the keys of a batch copied together.

The operators read keys that lie in one piece, so a block table costs a copy of what is seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import has_shape, is_integer, refuse

__all__ = ["check_blocks", "in_range", "packed_pages", "used_blocks"]


def check_blocks(
    function: str, q: Tensor, k: Tensor, v: Tensor, table: Tensor, batch: int, suffix: str = ""
) -> None:
    """``suffix`` is what the function calls ``k`` and ``v`` besides."""
    layout = "[blocks, block_size, heads_k, head_dim]"
    has_shape(function, f"k{suffix}", k, layout, (None, None, None, q.shape[-1]))
    layout = layout.replace("head_dim", "value_dim")
    has_shape(function, f"v{suffix}", v, layout, (*k.shape[:3], None))
    has_shape(function, "block_table", table, "[batch, blocks_of_a_sequence]", (batch, None))
    is_integer(function, "block_table", table, q.device)
    if k.shape[1] == 0:
        refuse(function, "blocks must hold at least one token")


def in_range(function: str, name: str, index: Tensor, count: int) -> Tensor:
    """``index`` as int64, refused on a CPU where it is not in ``[0, count)``.

    A GPU does not tell the host. There a negative number becomes ``count``, so that torch's own
    check stops the program instead of counting from the end.
    """
    index = index.long()
    if index.device.type != "cpu":
        return torch.where(index < 0, count, index)
    wrong = index[(index < 0) | (index >= count)]
    if wrong.numel():
        refuse(function, f"{name} must be in [0, {count}), got {int(wrong[0])}")
    return index


def used_blocks(function: str, table: Tensor, lengths: Tensor, blocks: int, size: int) -> Tensor:
    """The table as int64, with 0 for what no length reaches; those entries may hold anything."""
    start = torch.arange(table.shape[1], device=table.device) * size
    used = start < lengths[:, None]
    return in_range(function, "block_table", torch.where(used, table, 0), blocks)


def packed_pages(
    function: str, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_k: Tensor, table: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and values of all sequences back to back: ``[tokens_k, heads_k, head_dim]``."""
    has_shape(function, "cu_seqlens_k", cu_seqlens_k, "[batch + 1]", (None,))
    is_integer(function, "cu_seqlens_k", cu_seqlens_k, q.device)
    lengths = cu_seqlens_k.diff()
    check_blocks(function, q, k, v, table, lengths.numel())
    blocks, size = k.shape[:2]
    numbers = lengths.tolist()
    if any(not 0 <= number <= table.shape[1] * size for number in numbers):
        refuse(
            function,
            f"cu_seqlens_k gives lengths {numbers}, but block_table has room for "
            f"{table.shape[1] * size} tokens of a sequence",
        )
    table = used_blocks(function, table, lengths, blocks, size)
    row = torch.arange(lengths.numel(), device=q.device).repeat_interleave(lengths)
    token = torch.arange(row.numel(), device=q.device) - (cu_seqlens_k[:-1] - cu_seqlens_k[:1])[row]
    slots = (table[row, token // size], token % size)
    return k[slots], v[slots]
