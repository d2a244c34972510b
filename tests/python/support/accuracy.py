"""How results are compared: the accuracy criterion, and equality of bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from support import oracle
from support.oracle import Masks

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
    ours: Tensor, truth: np.ndarray, eager: Tensor, *, factor: float = 2.0, name: str = "result"
) -> None:
    """``err(ours) <= factor * err(eager) + atol``, the criterion of FlashAttention's tests.

    ``atol`` is two rounding steps of the dtype at the size of the result. Few values can pass
    through ``+ 0.3 - 0.3`` unrounded, so it is never below one unit in the last place.
    """
    got = oracle.to_numpy(ours, truth.dtype.type)
    same_patterns(got, truth)
    finite = np.isfinite(truth)
    if not finite.any():
        return
    rounded = torch.from_numpy(truth[finite].astype(np.float64)).to(ours.dtype)
    atol = 2 * float((rounded + 0.3 - 0.3 - rounded).abs().nan_to_num(0.0).max())
    atol = max(atol, torch.finfo(ours.dtype).eps * float(np.abs(truth[finite]).max()))
    eager_error = np.abs(oracle.to_numpy(eager, truth.dtype.type)[finite] - truth[finite])
    eager_error = eager_error[np.isfinite(eager_error)].max(initial=0)
    error = np.abs(np.where(finite, got, 0) - np.where(finite, truth, 0))
    bound = factor * float(eager_error) + atol
    if error.max() > bound:
        spot = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
        raise AssertionError(
            f"{name}: error {float(error.max()):.3e} > {bound:.3e} at {spot}: ours {got[spot]}, "
            f"truth {truth[spot]} (error of eager {float(eager_error):.3e}, atol {atol:.3e})"
        )


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
    eager, _ = oracle.eager_attention(query, key, value, masks, scale)
    assert out.dtype == query.dtype and out.shape == eager.shape
    assert_accurate(out, truth, eager, name="output")
    if logsumexp is not None:
        sums = torch.float64 if query.dtype == torch.float64 else torch.float32
        assert logsumexp.dtype == sums
        _, eager_logsumexp = oracle.eager_attention(query, key, value, masks, scale, dtype=sums)
        assert_accurate(logsumexp, truth_logsumexp, eager_logsumexp, name="logsumexp")
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
