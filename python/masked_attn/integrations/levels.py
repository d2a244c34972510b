"""What ``patch`` was asked for, apart from the attention itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Levels"]


@dataclass(frozen=True)
class Levels:
    """The levels of a patched model, each of which can be switched off; see ``patch``."""

    fused: bool = True
    padding_free: bool = True
    fuse_activation: bool = True
    fast_linear: bool = True
    positions_from_mask: bool = False
    cache_dtype: torch.dtype | None = None
