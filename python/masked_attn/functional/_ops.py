"""The operators of the library. This is the only file that says ``torch.ops``."""

from __future__ import annotations

import torch

__all__ = ["ops"]

ops = torch.ops.masked_attn
