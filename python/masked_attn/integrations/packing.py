"""A padded batch without its pads: ``[batch, tokens, ...]`` becomes ``[1, real tokens, ...]``.

The rows then lie back to back. Cache and results keep the padded layout; pads become zeros there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..masks import packed_tokens

__all__ = ["Packing", "make_packing"]


@dataclass(frozen=True)
class Packing:
    """Which slots of ``[batch, tokens]`` hold real tokens.

    Attributes:
        batch, tokens: sizes of the padded batch.
        slots: int64 ``[real tokens]``, each the number of a slot, row after row.
        cu_seqlens: int64 ``[batch + 1]``, where each row begins among the real tokens.
        longest: the most real tokens of a row.
        runs: for each row where its real tokens begin and end in the row, if they are one run in
            every row; else None.
        filled: tokens that the cache holds already.
    """

    batch: int
    tokens: int
    slots: Tensor
    cu_seqlens: Tensor
    longest: int
    runs: list[tuple[int, int]] | None
    filled: int

    def on(self, device: torch.device) -> Packing:
        """The same for tensors on another device."""
        if self.slots.device == device:
            return self
        slots, cu_seqlens = self.slots.to(device), self.cu_seqlens.to(device)
        return replace(self, slots=slots, cu_seqlens=cu_seqlens)

    def pack(self, padded: Tensor) -> Tensor:
        """``[batch or 1, tokens, ...]`` -> ``[1, real tokens, ...]``."""
        rest = padded.shape[2:] if padded.ndim > 1 else ()
        whole = padded.expand(self.batch, self.tokens, *rest)
        return whole.reshape(-1, *rest).index_select(0, self.slots)[None]

    def unpack(self, packed: Tensor) -> Tensor:
        """``[1, real tokens, ...]`` -> ``[batch, tokens, ...]``, zeros at pads."""
        rest = packed.shape[2:]
        padded = packed.new_zeros(self.batch * self.tokens, *rest)
        return padded.index_copy(0, self.slots, packed[0]).view(self.batch, self.tokens, *rest)

    def unpack_heads(self, packed: Tensor) -> Tensor:
        """``[real tokens, heads, dim]`` -> ``[batch, heads, tokens, dim]``, zeros at pads."""
        return self.unpack(packed[None]).transpose(1, 2)

    def pack_heads(self, padded: Tensor) -> Tensor:
        """``[batch, heads, tokens, dim]`` -> ``[real tokens, heads, dim]``."""
        return self.pack(padded.transpose(1, 2))[0]

    def write_heads(self, packed: Tensor, target: Tensor) -> None:
        """``unpack_heads`` into the memory of ``target`` ``[batch, heads, tokens, dim]``."""
        if self.runs is None:
            target.zero_()
            rows = self.slots.div(self.tokens, rounding_mode="floor")
            target.transpose(1, 2)[rows, self.slots.remainder(self.tokens)] = packed.to(
                target.dtype
            )
            return
        start = 0
        for row, (begin, end) in zip(target, self.runs, strict=True):
            row[:, :begin].zero_()
            row[:, begin:end].copy_(packed[start : start + end - begin].transpose(0, 1))
            row[:, end:].zero_()
            start += end - begin


def make_packing(real: Tensor, filled: int) -> Packing | None:
    """The packing of a batch, or None where there is no pad (or nothing else).

    Args:
        real: bool ``[batch, tokens]`` on the CPU, True = real token.
        filled: tokens that the cache holds already.
    """
    slots, cu_seqlens, longest = packed_tokens(real)
    if slots.numel() in (0, real.numel()):
        return None
    return Packing(
        batch=real.shape[0],
        tokens=real.shape[1],
        slots=slots,
        cu_seqlens=cu_seqlens,
        longest=longest,
        runs=_runs(real, cu_seqlens.diff()),
        filled=filled,
    )


def _runs(real: Tensor, counts: Tensor) -> list[tuple[int, int]] | None:
    first = real.int().argmax(-1)
    last = real.shape[1] - real.flip(-1).int().argmax(-1)
    if bool(((last - first != counts) & (counts > 0)).any()):
        return None
    ends = torch.where(counts > 0, last, first)
    return list(zip(first.tolist(), ends.tolist(), strict=True))
