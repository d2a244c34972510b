"""How results are compared: the accuracy criterion, and equality of bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from support import bounds, oracle
from support.oracle import Masks

# The largest error of each kind of result so far, as a share of its bound.
TIGHTNESS: dict[str, float] = {}

_INT_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_patterns(ours: np.ndarray, truth: np.ndarray) -> None:
    """NaN, +Inf and -Inf must stand in the same places: letting NaN pass hides bugs."""
    assert ours.shape == truth.shape, f"shape {ours.shape}, expected {truth.shape}"
    for name, test in (("NaN", np.isnan), ("+Inf", np.isposinf), ("-Inf", np.isneginf)):
        wrong = test(ours) != test(truth)
        if wrong.any():
            spot = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{name} pattern differs at {int(wrong.sum())} places, first {spot}: "
                f"ours {ours[spot]}, truth {truth[spot]}"
            )


def assert_accurate(
    ours: Tensor, truth: np.ndarray, bound: np.ndarray, *, name: str = "result"
) -> None:
    """``|ours - truth| <= bound``, element by element, and the rounding to ``ours.dtype`` on top.

    ``bound`` comes from ``support.bounds``: from the size of the sums and their terms.
    """
    got = oracle.to_numpy(ours, truth.dtype.type)
    same_patterns(got, truth)
    finite = np.isfinite(truth)
    if not finite.any():
        return
    error = np.abs(np.where(finite, got, 0) - np.where(finite, truth, 0)).astype(np.float64)
    allowed = bound + bounds.storage(np.where(finite, truth, 0).astype(np.float64), ours.dtype)
    allowed = np.broadcast_to(allowed, error.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(error == 0, 0, error / allowed)
    share = np.where(finite, share, 0)
    spot = tuple(int(i) for i in np.unravel_index(int(share.argmax()), share.shape))
    if not share[spot] <= 1:  # NaN too
        raise AssertionError(
            f"{name}: error {error[spot]:.3e} > {allowed[spot]:.3e} at {spot}: ours {got[spot]}, "
            f"truth {truth[spot]}"
        )
    note_tightness(f"{name} {str(ours.dtype).removeprefix('torch.')}", float(share[spot]))


def note_tightness(kind: str, share: float) -> None:
    TIGHTNESS[kind] = max(TIGHTNESS.get(kind, 0.0), share)


def assert_softmax_accurate(ours: Tensor, scores: Tensor, masks: Masks, scale: float = 1.0) -> None:
    """Weights of one call of ``masked_softmax`` against the oracle."""
    assert ours.dtype == scores.dtype
    truth = oracle.softmax(scores, masks, scale)
    assert_accurate(ours, truth, bounds.softmax(scores, masks, scale), name="weights")


def assert_attention_accurate(
    out: Tensor,
    logsumexp: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masks: Masks,
    scale: float | None = None,
) -> None:
    """Output (and log-sum-exp) of one attention call against the oracle."""
    truth, truth_logsumexp = oracle.attention(query, key, value, masks, scale)
    bound, logsumexp_bound = bounds.attention(query, key, value, masks, scale)
    assert out.dtype == query.dtype
    assert_accurate(out, truth, bound, name="output")
    if logsumexp is not None:
        assert logsumexp.dtype == bounds.sum_dtype(query.dtype)
        assert_accurate(logsumexp, truth_logsumexp, logsumexp_bound, name="logsumexp")
    empty = ~oracle.seen_keys((*query.shape[:3], key.shape[2]), masks).any(-1)
    assert_all_zero(out[torch.from_numpy(empty).to(out.device)])


def assert_all_zero(tensor: Tensor) -> None:
    """Exactly 0, not nearly."""
    assert not tensor.count_nonzero(), f"{int(tensor.count_nonzero())} values are not exactly 0"


def assert_same_bits(ours: Tensor, expected: Tensor, name: str = "result") -> None:
    """Equal dtype, shape and every bit (the sign of zero too; any NaN equals any NaN)."""
    assert ours.dtype == expected.dtype, f"{name}: {ours.dtype}, expected {expected.dtype}"
    assert ours.shape == expected.shape, f"{name}: {ours.shape}, expected {expected.shape}"
    expected = expected.to(ours.device)
    as_int = _INT_OF_SIZE[ours.element_size()]
    differs = ours.contiguous().view(as_int) != expected.contiguous().view(as_int)
    differs &= ~(ours.isnan() & expected.isnan())
    if differs.any():
        spot = tuple(differs.nonzero()[0].tolist())
        raise AssertionError(
            f"{name}: {int(differs.sum())} of {differs.numel()} values differ in bits, first at "
            f"{spot}: {ours[spot].item()!r}, expected {expected[spot].item()!r}"
        )
