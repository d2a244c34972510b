"""A 0/1 padding mask as the additive mask of eager attention."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_zero_one
from ._ops import ops

__all__ = ["expand_mask"]


def expand_mask(
    mask: Tensor,
    *,
    dtype: torch.dtype,
    query_length: int | None = None,
    causal: bool = False,
    window: int | None = None,
    fill: float | None = None,
    check: bool = False,
) -> Tensor:
    """Expand a 0/1 padding mask to the additive mask that is added to attention scores.

    Args:
        mask: ``[batch, keys]``, bool, integer or float; nonzero means "may be seen".
        dtype: floating dtype of the result.
        query_length: number of queries; ``None`` means as many as keys.
        causal: query ``i`` sees key ``j`` only if ``j <= i + (keys - query_length)``.
        window: query ``i`` sees only the ``window`` keys up to its own position (and as many after
            it when not ``causal``).
        fill: value of masked positions; ``None`` means ``-inf``.
        check: refuse values other than 0 and 1 (a debugging aid; it reads the whole mask).

    Returns:
        ``[batch, 1, query_length, keys]`` of ``dtype``: 0 where visible, ``fill`` where masked.

    Raises:
        RuntimeError: wrong rank or dtype, or a finite ``fill`` that overflows ``dtype``.
        ValueError: ``check`` found a value other than 0 and 1.

    Example:
        >>> expand_mask(torch.tensor([[0, 1]]), dtype=torch.float32, causal=True)
        tensor([[[[-inf, -inf],
                  [-inf, 0.]]]])
    """
    if check:
        check_zero_one(mask)
    result: Tensor = ops.expand_mask(
        mask, dtype=dtype, query_length=query_length, causal=causal, window=window, fill=fill
    )
    return result
