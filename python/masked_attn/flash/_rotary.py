"""Rotary position embeddings (Su et al. 2021, section 3.4.2), in the two orders of flash-attn."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import has_shape, refuse
from ._how import dtype_of_sums
from ._pages import in_range

__all__ = ["Rotary"]


class Rotary:
    """Tables of cosines and sines, one row for each position.

    Args:
        cos: ``[positions, rotary_dim / 2]``; the first ``rotary_dim`` of a head are turned.
        sin: as ``cos``.
        interleaved: dimensions 0 and 1 turn together, 2 and 3, and so on; otherwise 0 and
            ``rotary_dim / 2``, 1 and ``rotary_dim / 2 + 1``, and so on.
    """

    def __init__(
        self, function: str, cos: Tensor, sin: Tensor, interleaved: bool, q: Tensor
    ) -> None:
        has_shape(function, "rotary_cos", cos, "[positions, rotary_dim / 2]", (None, None))
        has_shape(function, "rotary_sin", sin, "[positions, rotary_dim / 2]", tuple(cos.shape))
        if 2 * cos.shape[1] > q.shape[-1]:
            refuse(
                function,
                f"rotary_cos turns {2 * cos.shape[1]} dimensions, but head_dim is {q.shape[-1]}",
            )
        for name, table in (("rotary_cos", cos), ("rotary_sin", sin)):
            if table.device != q.device or not table.is_floating_point():
                refuse(
                    function,
                    f"{name} must be floating on {q.device}, the device of q, got {table.dtype} on "
                    f"{table.device}",
                )
        self.function, self.cos, self.sin, self.interleaved = function, cos, sin, interleaved

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """``x``: ``[batch, tokens, heads, head_dim]``; ``positions``: ``[1 or batch, tokens]``.

        Products are float32 (float64 for float64); only the result is rounded.
        """
        what = "the positions of rotary_cos and rotary_sin"
        positions = in_range(self.function, what, positions, self.cos.shape[0])
        wide = dtype_of_sums(x)
        cos, sin = (table[positions][:, :, None].to(wide) for table in (self.cos, self.sin))
        half = self.cos.shape[1]
        turning = x[..., : 2 * half].to(wide)
        pairs = turning.unflatten(-1, (half, 2) if self.interleaved else (2, half))
        axis = -1 if self.interleaved else -2
        first, second = pairs.unbind(axis)
        turned = torch.stack((first * cos - second * sin, second * cos + first * sin), axis)
        return torch.cat((turned.flatten(-2).to(x.dtype), x[..., 2 * half :]), dim=-1)
