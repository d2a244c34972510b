"""What a call asks of the scores: who sees whom, and what is done with what is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._checks import has_shape, refuse

__all__ = ["Asked", "How", "dtype_of_sums", "how_of"]


class How(NamedTuple):
    """The arguments that all functions share. ``left`` and ``right`` are None where unbounded.

    A query at position p sees the keys from ``p - left`` up to ``p + right``, both included; the
    last query stands at the last key.
    """

    left: int | None
    right: int | None
    scale: float | None
    softcap: float | None
    alibi_slopes: Tensor | None

    def position(self, queries: int, keys: int) -> tuple[bool, int | None] | None:
        """``causal`` and ``window`` of the operators, or None where they cannot say it.

        Their ``window=w`` is ``left = right = w - 1``, or ``left = w - 1`` beside ``causal``. A
        bound that no pair of a query and a key reaches is none.
        """
        left = None if self.left is None or self.left >= keys - 1 else self.left
        right = None if self.right is None or self.right >= queries - 1 else self.right
        if right == 0:
            return True, None if left is None else left + 1
        if left is None and right is None:
            return False, None
        if left == right or (right is None and left is not None and left >= queries - 1):
            return False, None if left is None else left + 1
        if left is None and right is not None and right >= keys - 1:
            return False, right + 1
        return None

    def seen(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """What ``position`` cannot say, pair by pair: bool ``[queries, keys]``."""
        query = torch.arange(queries, device=device)[:, None] + (keys - queries)
        ahead = torch.arange(keys, device=device)[None, :] - query
        seen = torch.ones_like(ahead, dtype=torch.bool)
        if self.left is not None:
            seen &= ahead >= -self.left
        if self.right is not None:
            seen &= ahead <= self.right
        return seen

    def scores(self) -> dict[str, Any]:
        """Keywords of the operators that do not say who sees whom."""
        return {
            "scale": self.scale,
            "softcap": self.softcap,
            "alibi_slopes": self.alibi_slopes,
        }

    def of_row(self, row: int) -> How:
        """The same for one row of the batch alone."""
        slopes = self.alibi_slopes
        if slopes is None or slopes.dim() == 1:
            return self
        return self._replace(alibi_slopes=slopes[row : row + 1])


class Asked(NamedTuple):
    """The same in the words of flash-attn, as a function is given them."""

    softmax_scale: float | None
    causal: bool
    window_size: Sequence[int]
    softcap: float
    alibi_slopes: Tensor | None


def how_of(function: str, asked: Asked, *, batch: int, heads: int) -> How:
    """Read and check what is asked."""
    softmax_scale, causal, window_size, softcap, alibi_slopes = asked
    if len(window_size) != 2:
        refuse(function, f"window_size must be (left, right), got {window_size!r}")
    left, right = (int(size) for size in window_size)
    if softmax_scale is not None and not math.isfinite(softmax_scale):
        refuse(function, f"softmax_scale must be finite, got {softmax_scale}")
    if not math.isfinite(softcap):
        refuse(function, f"softcap must be finite, got {softcap}")
    if alibi_slopes is not None:
        one_each = alibi_slopes.dim() == 1
        layout, sizes = ("[heads]", (heads,)) if one_each else ("[batch, heads]", (batch, heads))
        has_shape(function, "alibi_slopes", alibi_slopes, layout, sizes)
    return How(
        left=None if left < 0 else left,
        right=0 if causal else None if right < 0 else right,
        scale=None if softmax_scale is None else float(softmax_scale),
        softcap=float(softcap) if softcap > 0 else None,
        alibi_slopes=alibi_slopes,
    )


def dtype_of_sums(tensor: Tensor) -> torch.dtype:
    """What the operators add up in, and the dtype of the log-sum-exp."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
