"""How far a result may be from the truth, for each element: from its own terms, and nothing else.

Each rounding is off by a random amount, about ``0.43 * u`` of the rounded number, where ``u`` is
half the distance from 1 to the next number. Independent errors add up as the root of their squares
(Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019), so everything
here is a standard deviation until ``BAND`` of them make a bound. No other implementation is run, so
the bound is the same on every machine. ``docs/numerics.md`` says it in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from support import oracle
from support.oracle import Masks

# Standard deviations. Of a million normal errors the largest is near 5.
BAND = 6.0
# Of one rounding, as a share of u: 0.43, and something for numbers that are not spread evenly.
_ROUNDING = 0.5
# Roundings in an exponential: of its polynomial, and of the rescaling of what came before.
_EXPONENTIAL = 12.0
# The same, in a tanh.
_TANH = 12.0
# The same, in an activation: an exponential, a quotient, products; or a polynomial and erfc.
_ACTIVATION = 20.0


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Scores, softmax and sums are float32, and float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _rounding(dtype: torch.dtype) -> float:
    return _ROUNDING * torch.finfo(sum_dtype(dtype)).eps / 2


def of_sum(total: np.ndarray, squares: np.ndarray, terms: int | np.ndarray) -> np.ndarray:
    """Variance of a sum of products, in roundings: ``squares`` is the sum of the squared terms.

    A partial sum is of the size of the whole, or of a random walk of the terms, whichever is more.
    """
    additions = np.maximum(terms - 1, 0)
    return squares + additions * (total**2 + squares)


def linear(
    x: Tensor,
    matrix: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    multiplier: Tensor | None = None,
) -> np.ndarray:
    """Of ``activation(x @ matrix.T + bias) * multiplier``."""
    left, right = oracle.to_numpy(x), oracle.to_numpy(matrix)
    total, squares, terms = left @ right.T, left**2 @ right.T**2, x.shape[-1]
    variance = of_sum(total, squares, terms)
    if bias is not None:
        total = total + oracle.to_numpy(bias)
        variance = variance + total**2
    bound = BAND * _rounding(x.dtype) * np.sqrt(variance)
    if activation is not None:
        bound = _activation(total, bound, activation, x.dtype)
    if multiplier is not None:
        factor = np.abs(oracle.to_numpy(multiplier))
        own = _rounding(x.dtype) * np.abs(oracle.activated(total, activation))
        bound = factor * (bound + BAND * own)
    return bound


def _activation(
    x: np.ndarray, x_bound: np.ndarray, activation: str, dtype: torch.dtype
) -> np.ndarray:
    """What an error of x moves the result by, and the roundings of the function itself."""
    value = oracle.activated(x, activation)
    ends = [oracle.activated(x + side * x_bound, activation) for side in (-1, 1)]
    moved = np.maximum(*(np.abs(end - value) for end in ends))
    if activation == "relu":
        return moved
    # A minimum inside is not seen at the ends. No second derivative is beyond 1.2.
    moved = moved + x_bound**2
    # e^-u is off by the error of u: a few roundings of u itself.
    size = {"silu": np.abs(x), "gelu": x**2 / 2, "gelu_tanh": 1.6 * np.abs(x + 0.044715 * x**3)}
    exponent = np.where(x < 0, size[activation], 0)
    own = _rounding(dtype) * np.abs(value) * np.sqrt(_ACTIVATION + 4 * exponent**2)
    least = torch.finfo(sum_dtype(dtype)).smallest_normal
    return moved + BAND * own + least * (np.abs(x) + 1)  # what is smaller is cleared


@dataclass
class _Scores:
    """Visible scores of a call, ``[B, H, Q, K]``, and how their weights err."""

    weights: np.ndarray
    log_weights: np.ndarray  # -inf where masked
    logsumexp: np.ndarray  # [B, H, Q, 1]
    products: np.ndarray  # the part of the scores that the scale multiplies
    deviation: np.ndarray  # relative, of e^score; 0 where masked
    unit: float  # one rounding

    @property
    def reach(self) -> np.ndarray:
        """The most that a score's exponent may be off."""
        return BAND * self.deviation

    @property
    def upper_weights(self) -> np.ndarray:
        """What the weights can be at most: for large scores a rounding decides which one wins."""
        return np.exp(np.minimum(self.log_weights + self.reach - self._least_total, 0))

    @property
    def shares(self) -> np.ndarray:
        """Standard deviation of ``weight * (error of its exponential)``, large errors included."""
        with np.errstate(divide="ignore"):
            error = self.reach + np.log(-np.expm1(-self.reach))  # log(e^reach - 1)
        return np.exp(np.minimum(self.log_weights - self._least_total + error, 50)) / BAND

    @property
    def _least_total(self) -> np.ndarray:
        """Logarithm of the least that the weights can sum to, relative to what they should."""
        return _log_sum(self.log_weights - self.reach)

    @property
    def keys(self) -> np.ndarray:
        """Number of visible keys, ``[B, H, Q, 1]``."""
        return np.isfinite(self.log_weights).sum(axis=-1, keepdims=True)


def _log_sum(values: np.ndarray) -> np.ndarray:
    """Of rows without any visible key: 0."""
    top = values.max(axis=-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.exp(values - top).sum(axis=-1, keepdims=True)
    return top + np.log(np.where(total == 0, 1, total))


def _scores(
    products: np.ndarray, variance: np.ndarray, masks: Masks, dtype: torch.dtype
) -> _Scores:
    """``variance`` of the products in roundings; then come the bias, the maximum and ``exp``."""
    unit = _rounding(dtype)
    slope_bias = oracle.slope_bias(products.shape, masks, np.float64)
    bias = np.nan_to_num(oracle.bias_of(masks, np.float64)) + slope_bias
    bias = np.broadcast_to(bias, products.shape)
    weights, logsumexp, seen = oracle.weights_of(products + slope_bias, masks, np.float64)
    logsumexp = np.where(np.isfinite(logsumexp), logsumexp, 0)[..., None]
    scores = np.where(seen, products + bias, 0)
    top = np.where(seen, scores, -np.inf).max(axis=-1, keepdims=True, initial=-np.inf)
    below = np.where(seen, scores - np.where(np.isfinite(top), top, 0), 0)
    has_bias = masks.attn_mask is not None and masks.attn_mask.dtype != torch.bool
    has_bias = has_bias or "alibi_slopes" in masks.extra
    added = scores**2 + np.where(seen, bias, 0) ** 2 if has_bias else 0
    deviation = unit * np.sqrt(variance + added + below**2 + _EXPONENTIAL)
    log_weights = np.where(seen, scores - logsumexp, -np.inf)
    deviation = np.where(seen, deviation, 0)
    return _Scores(weights, log_weights, logsumexp, products, deviation, unit)


def softmax(scores: Tensor, masks: Masks, scale: float) -> np.ndarray:
    """Of ``masked_softmax``."""
    products = np.nan_to_num(oracle.to_numpy(scores)) * scale
    s = _scores(products, products**2, masks, scores.dtype)
    # One error of the total is shared by the row; its own roundings are those of the sum.
    total = (s.shares**2).sum(-1, keepdims=True) + s.unit**2 * (s.keys + 2)
    mean = (s.weights * products).sum(-1, keepdims=True)
    # The scale itself is rounded, once for all scores.
    relative = BAND * np.sqrt(total) + 2 * s.unit * np.abs(products - mean)
    most = s.upper_weights * (1 + BAND * s.unit * np.sqrt(s.keys + 2))
    least = torch.finfo(sum_dtype(scores.dtype)).smallest_normal
    return np.minimum(BAND * s.shares + s.weights * relative, most) + least


def attention(
    query: Tensor, key: Tensor, value: Tensor, masks: Masks, scale: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Of the output ``[B, H, Q, Dv]`` and of the log-sum-exp ``[B, H, Q]``."""
    q, k, v = (np.nan_to_num(oracle.to_numpy(t), posinf=0, neginf=0) for t in (query, key, value))
    groups = q.shape[1] // max(k.shape[1], 1)
    k, v = (np.repeat(t, groups, axis=1) for t in (k, v))
    scale = oracle.scale_of(query, scale)
    products = np.matmul(q, k.swapaxes(2, 3)) * scale
    squares = np.matmul(q**2, k.swapaxes(2, 3) ** 2) * scale**2
    # Each scaled element of the query is rounded, and each product.
    variance = squares + of_sum(products, squares, q.shape[3])
    capped = oracle.capped(products, masks)
    slope = 1.0
    if "softcap" in masks.extra:
        # Where tanh is flat an error of the product is smaller; its own roundings are relative.
        slope = 1 - (capped / masks.extra["softcap"]) ** 2
        variance = variance * slope**2 + _TANH * capped**2
    s = _scores(capped, variance, masks, query.dtype)
    s.products = products * slope  # how a score moves with the scale
    out_bound, logsumexp_bound = _of_output(s, v, query.dtype), _of_logsumexp(s)
    if "sinks" in masks.extra:
        out_bound = _with_sinks(out_bound, logsumexp_bound, s, v, masks)
        least = torch.finfo(sum_dtype(query.dtype)).smallest_normal
        out_bound += least * (np.abs(v).sum(-2, keepdims=True) + 1)
    return out_bound, logsumexp_bound[..., 0]


def _with_sinks(
    bound: np.ndarray, logsumexp_bound: np.ndarray, s: _Scores, v: np.ndarray, masks: Masks
) -> np.ndarray:
    """The output is multiplied by ``sigmoid(logsumexp - sink)``."""
    sums = np.where(s.keys > 0, s.logsumexp, -np.inf)
    left = oracle.left_by_sinks(sums[..., 0], masks)[..., None]
    sinks = oracle.to_numpy(masks.extra["sinks"])[:, None, None]
    # The exponent of the smaller of the two is their distance, which is rounded.
    apart = np.where(np.isfinite(sinks) & (s.keys > 0), np.abs(s.logsumexp - sinks), 0)
    own = BAND * s.unit * np.sqrt(_EXPONENTIAL + apart**2)
    out = np.abs(np.matmul(s.weights, v)) * left
    return bound * left + out * ((1 - left) * logsumexp_bound + own)


def _of_output(s: _Scores, v: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    size = np.abs(v).max(initial=0) or 1.0
    v = v / size
    out = np.matmul(s.weights, v)
    weighted = _spread(s.shares**2, v, out)
    squares = np.matmul(s.weights**2, v**2)
    sums = of_sum(out, squares, s.keys) + (s.keys + 2) * out**2
    bound = BAND * np.sqrt(weighted + s.unit**2 * sums)
    # The scale is rounded once for all scores.
    moved = s.weights * s.products
    bound += 2 * s.unit * np.abs(np.matmul(moved, v) - moved.sum(-1, keepdims=True) * out)
    # Whatever the errors of the scores are, a mean of values stays among them.
    upper = s.upper_weights
    most = np.sqrt(upper.sum(-1, keepdims=True) * _spread(upper, v, out))
    bound = np.minimum(bound, most + BAND * s.unit * np.sqrt(sums))
    least = torch.finfo(sum_dtype(dtype)).smallest_normal
    return size * (bound + least * (np.abs(v).sum(-2, keepdims=True) + 1))


def _spread(weights: np.ndarray, v: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``sum_j weights[j] * (v[j] - out) ** 2`` as three products of matrices."""
    square = np.matmul(weights, v**2) - 2 * out * np.matmul(weights, v)
    return np.maximum(square + weights.sum(-1, keepdims=True) * out**2, 0)


def _of_logsumexp(s: _Scores) -> np.ndarray:
    total = (s.shares**2).sum(-1, keepdims=True)
    roundings = s.keys + 4 + 2 * s.logsumexp**2
    most = s.reach.max(axis=-1, keepdims=True, initial=0)
    scaled = 2 * s.unit * np.abs((s.weights * s.products).sum(-1, keepdims=True))
    bound = np.minimum(BAND * np.sqrt(total), most) + BAND * s.unit * np.sqrt(roundings)
    return bound + scaled


def storage(truth: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Of rounding once more, to the dtype of the result."""
    info = torch.finfo(dtype)
    if dtype == sum_dtype(dtype):
        return np.zeros_like(truth)
    return info.eps / 2 * np.maximum(np.abs(truth), info.smallest_normal) * 1.01
