"""Scale, mask and softmax in one pass."""

from __future__ import annotations

from torch import Tensor

from ._checks import warn_zero_one_float
from ._ops import ops

__all__ = ["masked_softmax"]


def masked_softmax(
    scores: Tensor,
    *,
    key_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float = 1.0,
    check: bool = False,
) -> Tensor:
    """Scale, mask and normalise attention scores in one pass: ``softmax(scale * scores + mask)``.

    Args:
        scores: ``[batch, heads, queries, keys]``, float32, float64, float16 or bfloat16.
        key_mask: ``[batch, keys]`` bool, True = may be seen.
        attn_mask: bool or float, broadcastable to ``scores``.
        causal: bottom-right aligned causal mask (the last query sees the last key).
        window: sliding window, in keys.
        scale: factor of the scores, applied before the mask.
        check: warn when a float ``attn_mask`` holds only 0 and 1 (probably meant as boolean).

    Returns:
        ``[batch, heads, queries, keys]`` of the dtype of ``scores``. Masked keys get exactly 0; a
        query that sees no key gets a row of zeros. Sums are float32 (float64 for float64).

    Raises:
        RuntimeError: unsupported dtype or shape, or an input that requires grad.

    Example:
        >>> import torch
        >>> key_mask = torch.tensor([[False, True, True, False]])
        >>> masked_softmax(torch.zeros(1, 1, 1, 4), key_mask=key_mask)
        tensor([[[[0.0000, 0.5000, 0.5000, 0.0000]]]])
    """
    if check:
        warn_zero_one_float(attn_mask)
    result: Tensor = ops.masked_softmax(
        scores,
        key_mask=key_mask,
        attn_mask=attn_mask,
        causal=causal,
        window=window,
        scale=scale,
    )
    return result
