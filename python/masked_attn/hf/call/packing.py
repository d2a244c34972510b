"""A padded batch without its pads: ``[batch, tokens, ...]`` becomes ``[1, kept tokens, ...]``.

The rows then lie back to back. Cache and results keep the padded layout; pads become zeros there.
The surprise: a few pads are kept. A slot predicts the next one, so the last slot of a row and the
one before a real token are read, whether they hold a token or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...masks import packed_tokens

__all__ = ["Packing", "make_packing"]


@dataclass(frozen=True)
class Packing:
    """Which slots of ``[batch, tokens]`` are kept: real tokens, and pads that are read.

    Attributes:
        batch, tokens: sizes of the padded batch.
        slots: int64 ``[kept tokens]``, each the number of a slot, row after row.
        cu_seqlens: int64 ``[batch + 1]``, where each row begins among the kept tokens.
        longest: the most kept tokens of a row.
        runs: for each row where its kept tokens begin and end in the row, if they are one run in
            every row; else None.
        filled: tokens that the cache holds already.
        has_pads: some of the kept tokens are pads, whose keys nobody may see.
    """

    batch: int
    tokens: int
    slots: Tensor
    cu_seqlens: Tensor
    longest: int
    runs: list[tuple[int, int]] | None
    filled: int
    has_pads: bool

    def on(self, device: torch.device) -> Packing:
        """The same for tensors on another device."""
        if self.slots.device == device:
            return self
        slots, cu_seqlens = self.slots.to(device), self.cu_seqlens.to(device)
        return replace(self, slots=slots, cu_seqlens=cu_seqlens)

    def pack(self, padded: Tensor) -> Tensor:
        """``[batch or 1, tokens, ...]`` -> ``[1, kept tokens, ...]``."""
        rest = padded.shape[2:] if padded.ndim > 1 else ()
        whole = padded.expand(self.batch, self.tokens, *rest)
        return whole.reshape(-1, *rest).index_select(0, self.slots)[None]

    def unpack(self, packed: Tensor) -> Tensor:
        """``[1, kept tokens, ...]`` -> ``[batch, tokens, ...]``, zeros at pads."""
        rest = packed.shape[2:]
        padded = packed.new_zeros(self.batch * self.tokens, *rest)
        return padded.index_copy(0, self.slots, packed[0]).view(self.batch, self.tokens, *rest)

    def unpack_heads(self, packed: Tensor) -> Tensor:
        """``[kept tokens, heads, dim]`` -> ``[batch, heads, tokens, dim]``, zeros at pads."""
        return self.unpack(packed[None]).transpose(1, 2)

    def pack_heads(self, padded: Tensor) -> Tensor:
        """``[batch, heads, tokens, dim]`` -> ``[kept tokens, heads, dim]``."""
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


def make_packing(real: Tensor, read: Tensor, filled: int, *, causal: bool = True) -> Packing | None:
    """The packing of a batch, or None where no pad can be left out (or nothing else is there).

    Args:
        real: bool ``[batch, filled + tokens]`` on the CPU, True = real token.
        read: bool ``[batch, tokens]``, slots that are read besides those that predict.
        filled: tokens that the cache holds already.
        causal: False for an encoder, whose slots predict nothing: then ``read`` are all.
    """
    pads = _pads_that_are_read(real, read) if causal else ~real & read
    kept = real[:, filled:] | pads
    slots, cu_seqlens, longest = packed_tokens(kept)
    if slots.numel() in (0, kept.numel()):
        return None
    return Packing(
        batch=kept.shape[0],
        tokens=kept.shape[1],
        slots=slots,
        cu_seqlens=cu_seqlens,
        longest=longest,
        runs=_runs(kept, cu_seqlens.diff()),
        filled=filled,
        has_pads=bool(pads.any()),
    )


def _pads_that_are_read(real: Tensor, read: Tensor) -> Tensor:
    """Pads among the new slots that predict: the next slot is real, or not there yet.

    A pad before the first token of its row has seen nothing that could predict.
    """
    tokens = read.shape[1]
    predicts = torch.nn.functional.pad(real[:, 1:], (0, 1), value=True)
    pads = ~real & (real.cumsum(-1) > 0)
    return pads[:, -tokens:] & (predicts[:, -tokens:] | read)


def _runs(kept: Tensor, counts: Tensor) -> list[tuple[int, int]] | None:
    first = kept.int().argmax(-1)
    last = kept.shape[1] - kept.flip(-1).int().argmax(-1)
    if bool(((last - first != counts) & (counts > 0)).any()):
        return None
    ends = torch.where(counts > 0, last, first)
    return list(zip(first.tolist(), ends.tolist(), strict=True))
