"""Arguments that change the scores of attention: softcap, sinks, ALiBi slopes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from support import seeds

KINDS = ("softcap", "sinks", "slopes", "slopes of rows", "all")


def score_options(
    kind: str,
    batch: int,
    heads: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Keyword arguments by name. A cap that bends, sinks among the scores, slopes of both signs."""
    seeds.start(9000 + seed)
    sinks = torch.randn(heads).to(device, dtype)
    slopes = (0.1 * torch.randn(batch, heads)).to(device, dtype)
    options: dict[str, Any] = {}
    if kind in ("softcap", "all"):
        options["softcap"] = 1.5
    if kind in ("sinks", "all"):
        options["sinks"] = sinks
    if kind in ("slopes of rows", "all"):
        options["alibi_slopes"] = slopes
    if kind == "slopes":
        options["alibi_slopes"] = slopes[0] if batch else torch.zeros(heads, device=device)
    return options


def of_row(options: dict[str, Any], row: int) -> dict[str, Any]:
    """The options for one row of the batch alone."""
    slopes = options.get("alibi_slopes")
    if not isinstance(slopes, Tensor) or slopes.dim() == 1:
        return options
    return {**options, "alibi_slopes": slopes[row : row + 1]}
