"""Attention over parts of the keys, put together: the log-sum-exp of each part says its share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

__all__ = ["merge_attention"]


@overload
def merge_attention(
    outs: Sequence[Tensor],
    logsumexps: Sequence[Tensor],
    *,
    return_logsumexp: Literal[False] = ...,
) -> Tensor: ...


@overload
def merge_attention(
    outs: Sequence[Tensor], logsumexps: Sequence[Tensor], *, return_logsumexp: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def merge_attention(
    outs: Sequence[Tensor], logsumexps: Sequence[Tensor], *, return_logsumexp: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention over all keys, from attention over parts of them.

    Each part is a call of ``masked_attention(..., return_logsumexp=True)`` with the same queries
    and other keys: a prompt that a whole batch shares and each row's own text, say.
    The formula is that of the online softmax (Milakov and Gimelshein 2018, section 3.1): a part
    counts with ``exp(logsumexp of the part - logsumexp of all)``.

    Args:
        outs: results of the parts, each ``[batch, heads, queries, value_dim]``.
        logsumexps: natural logarithms of their sums, each ``[batch, heads, queries]``; ``-inf`` for
            a query that sees nothing in this part, which then has no influence at all.
        return_logsumexp: also return the log-sum-exp of all parts, to merge it further.

    Returns:
        ``[batch, heads, queries, value_dim]`` of the dtype of ``outs``; exactly 0 for a query that
        sees no key in any part. With ``return_logsumexp`` also ``[batch, heads, queries]`` of the
        dtype of ``logsumexps``. Sums run in the order of the parts, in the dtype of ``logsumexps``
        (in float16 and bfloat16 the parts themselves were rounded before).

    Raises:
        ValueError: no part, not as many ``outs`` as ``logsumexps``, or shapes that do not fit.

    Example:
        >>> near, far = torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 2), 5.0)
        >>> three_keys, one_key = torch.tensor([[[3.0]]]).log(), torch.tensor([[[1.0]]]).log()
        >>> merge_attention([near, far], [three_keys, one_key])
        tensor([[[[2., 2.]]]])
    """
    _check(outs, logsumexps)
    parts = torch.stack(list(logsumexps))
    unseen = parts == -math.inf
    nowhere = unseen.all(dim=0)
    # A query that sees nothing anywhere has nothing to share out: -inf less -inf is NaN.
    base = parts.masked_fill(nowhere, 0.0).logsumexp(dim=0)
    shares = (parts - base).masked_fill(unseen, -math.inf).exp()
    total = torch.zeros_like(outs[0], dtype=parts.dtype)
    finite = torch.ones_like(outs[0], dtype=torch.bool)
    for out, share, hidden in zip(outs, shares, unseen, strict=True):
        # Hidden and not multiplied by 0: 0 * NaN is NaN.
        seen = out.masked_fill(hidden.unsqueeze(-1), 0.0)
        total = total + share.unsqueeze(-1) * seen
        finite &= seen.isfinite()
    # Shares may add up to a little more than 1, but a mean of finite values is finite.
    largest = torch.finfo(total.dtype).max
    merged = torch.where(finite, total.clamp(-largest, largest), total).to(outs[0].dtype)
    return (merged, base.masked_fill(nowhere, -math.inf)) if return_logsumexp else merged


def _check(outs: Sequence[Tensor], logsumexps: Sequence[Tensor]) -> None:
    if len(outs) == 0 or len(outs) != len(logsumexps):
        raise ValueError(
            "merge_attention: outs and logsumexps must hold one tensor for each part, "
            f"got {len(outs)} and {len(logsumexps)}"
        )
    shape = outs[0].shape
    for number, (out, logsumexp) in enumerate(zip(outs, logsumexps, strict=True)):
        if out.shape != shape or logsumexp.shape != shape[:-1]:
            raise ValueError(
                f"merge_attention: part {number} has out {list(out.shape)} and logsumexp "
                f"{list(logsumexp.shape)}, expected {list(shape)} and {list(shape[:-1])}"
            )
