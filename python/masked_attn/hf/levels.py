"""What ``patch`` was asked for, apart from the attention itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Levels"]

CACHE_DTYPES = (None, torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Levels:
    """The levels of a patched model, each of which can be switched off; see ``patch``."""

    fused: bool = True
    padding_free: bool = True
    fuse_activation: bool = True
    fast_linear: bool = True
    positions_from_mask: bool = True
    cache_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.cache_dtype not in CACHE_DTYPES:
            *names, last = (str(dtype) for dtype in CACHE_DTYPES)
            choices = f"{', '.join(names)} or {last}"
            raise ValueError(f"cache_dtype must be {choices}, got {self.cache_dtype!r}")
