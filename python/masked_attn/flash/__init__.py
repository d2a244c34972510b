"""The functions of flash-attn 2, on the operators of masked_attn: any device, any float dtype.

Code that was written for flash-attn runs when its import says ``masked_attn.flash`` in place of
``flash_attn``. Names, order and defaults of the arguments are those of flash-attn 2; what is not
supported is refused by name, never ignored.
"""

from __future__ import annotations

from pathlib import Path

from . import bert_padding
from .dense import flash_attn_func, flash_attn_kvpacked_func, flash_attn_qkvpacked_func
from .kvcache import flash_attn_with_kvcache
from .varlen import (
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)

# What LOCAL_KERNELS of the kernels package is to name; see docs/flash.md.
HUB_KERNEL = Path(__file__).parent / "hub_kernel"

__all__ = [
    "HUB_KERNEL",
    "bert_padding",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
]
