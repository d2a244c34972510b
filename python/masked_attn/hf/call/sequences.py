"""The noun Sequences: several of them back to back in one row, as flash attention takes them.

They come as keywords (``cu_seq_lens_q`` and its like, from ``DataCollatorWithFlattening``) or as
positions that start again. A token sees tokens of its own sequence only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...reference import position_visible
from .visibility import Visibility

__all__ = ["KEYWORDS", "Sequences"]

# As flash attention of transformers names them.
KEYWORDS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


@dataclass(frozen=True)
class Sequences:
    """Where each sequence of one row begins.

    Attributes:
        cu_seqlens: int32 or int64 ``[sequences + 1]``, from 0 to the number of tokens.
        longest: the most tokens of a sequence.
    """

    cu_seqlens: Tensor
    longest: int

    @classmethod
    def of_keywords(cls, keywords: Mapping[str, Any], batch: int, tokens: int) -> Sequences | None:
        """What a caller said; None where nothing was said.

        Args:
            keywords: of a forward, or of an attention function.
            batch: rows.
            tokens: of each row.

        Raises:
            ValueError: they do not fit the input, or say other keys than queries.
        """
        given = {name: keywords[name] for name in KEYWORDS if keywords.get(name) is not None}
        if not given:
            return None
        starts = given.get("cu_seq_lens_q")
        if not isinstance(starts, Tensor) or starts.ndim != 1:
            raise ValueError(f"{', '.join(given)}: cu_seq_lens_q must be a tensor [sequences + 1]")
        if batch != 1:
            raise ValueError(f"cu_seq_lens_q is for sequences in one row, got {batch} rows")
        keys = given.get("cu_seq_lens_k", starts)
        if torch.compiler.is_compiling():  # nothing can be read, so what was said is believed
            return cls(starts, int(given.get("max_length_q", tokens)))
        if keys is not starts and not torch.equal(keys, starts):
            raise ValueError("cu_seq_lens_k must be cu_seq_lens_q: a sequence sees itself")
        lengths = starts.diff()
        whole = starts.numel() > 0 and int(starts[0]) == 0 and int(starts[-1]) == tokens
        if not whole or bool((lengths < 0).any()):
            raise ValueError(f"cu_seq_lens_q must go from 0 to {tokens} without a step back")
        return cls(starts, int(lengths.max()) if lengths.numel() else 0)

    @classmethod
    def of_positions(cls, positions: Tensor) -> Sequences | None:
        """A new sequence wherever ``positions`` ``[1, tokens]`` jump; None where they do not."""
        jumps = (positions[0].diff() != 1).nonzero()[:, 0] + 1
        if not jumps.numel():
            return None
        ends = torch.tensor([positions.shape[1]], device=jumps.device)
        cu_seqlens = torch.cat([ends.new_zeros(1), jumps, ends])
        return cls(cu_seqlens, int(cu_seqlens.diff().max()))

    def on(self, device: torch.device) -> Sequences:
        """The same for tensors on another device."""
        if self.cu_seqlens.device == device:
            return self
        return replace(self, cu_seqlens=self.cu_seqlens.to(device))

    def visibility(self, tokens: int, *, causal: bool, window: int | None) -> Visibility:
        """The same said by one dense mask, for attention that takes no offsets."""
        device = self.cu_seqlens.device
        number = torch.bucketize(
            torch.arange(tokens, device=device), self.cu_seqlens[1:], right=True
        )
        near = position_visible(tokens, tokens, causal=causal, window=window, device=device)
        mask = near & (number[:, None] == number[None, :])
        return Visibility(keys=tokens, attn_mask=mask[None, None], says_all=True)
