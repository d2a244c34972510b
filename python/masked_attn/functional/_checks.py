"""What ``check=True`` looks at: the values of masks, which operators do not read twice."""

from __future__ import annotations

import warnings

from torch import Tensor

__all__ = ["check_zero_one", "warn_zero_one_float"]


def check_zero_one(mask: Tensor) -> None:
    odd = mask[(mask != 0) & (mask != 1)]
    if odd.numel():
        raise ValueError(f"expand_mask: mask must hold only 0 and 1, found {odd[0].item()}")


def warn_zero_one_float(attn_mask: Tensor | None) -> None:
    if attn_mask is None or not attn_mask.is_floating_point():
        return
    if bool(((attn_mask == 0) | (attn_mask == 1)).all()):
        warnings.warn(
            "attn_mask is a float mask of 0 and 1: it is added to the scores and masks nothing; "
            "pass attn_mask.bool() if 1 means 'may be seen'",
            stacklevel=3,
        )
