"""The operators as Python functions, one file each.

Masks follow one rule everywhere: boolean ``True`` means "may be seen"; a float mask is added to the
scores, and its values at or below ``0.5 * finfo(dtype).min`` (``-inf`` included) mean "not seen".
"""

from __future__ import annotations

from .cached_attention import cached_attention
from .expand_mask import expand_mask
from .linear import linear
from .masked_attention import masked_attention
from .masked_softmax import masked_softmax
from .packed_attention import packed_attention

__all__ = [
    "cached_attention",
    "expand_mask",
    "linear",
    "masked_attention",
    "masked_softmax",
    "packed_attention",
]
