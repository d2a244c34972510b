"""The truth that the operators are measured against: full matrices in numpy, float64 or longer.

It shares no line with ``masked_attn.reference``. ``bounds`` says how far from it a result may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


@dataclass
class Masks:
    """The mask arguments of one call; ``extra`` are those that change the scores of attention."""

    key_mask: Tensor | None = None
    attn_mask: Tensor | None = None
    causal: bool = False
    window: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def kwargs(self) -> dict[str, Any]:
        return {
            "key_mask": self.key_mask,
            "attn_mask": self.attn_mask,
            "causal": self.causal,
            "window": self.window,
            **self.extra,
        }

    def to(self, device: torch.device | str) -> Masks:
        key_mask, attn_mask = (
            None if mask is None else mask.to(device) for mask in (self.key_mask, self.attn_mask)
        )
        extra = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in self.extra.items()
        }
        return replace(self, key_mask=key_mask, attn_mask=attn_mask, extra=extra)


def to_numpy(tensor: Tensor, dtype: type = np.float64) -> np.ndarray:
    wide = tensor.detach().cpu()
    return (wide if wide.dtype == torch.bool else wide.double()).numpy().astype(dtype)


def truth_dtype(dtype: torch.dtype) -> type:
    """float64 results are measured in a longer type; all others in float64."""
    return np.longdouble if dtype == torch.float64 else np.float64


def seen_by_position(
    queries: int, keys: int, causal: bool = False, window: int | None = None
) -> np.ndarray:
    """bool [Q, K]; ``ahead`` is how far a key lies after the query's own position."""
    ahead = np.arange(keys)[None, :] - np.arange(queries)[:, None] - (keys - queries)
    seen = np.ones((queries, keys), dtype=bool)
    if causal:
        seen &= ahead <= 0
    if window is not None:
        seen &= (ahead > -window) & (ahead < window)
    return seen


def seen_keys(shape: tuple[int, int, int, int], masks: Masks) -> np.ndarray:
    """bool [B, H, Q, K]: the rule of visibility."""
    seen = np.broadcast_to(seen_by_position(shape[2], shape[3], masks.causal, masks.window), shape)
    if masks.key_mask is not None:
        seen = seen & to_numpy(masks.key_mask, bool)[:, None, None, :]
    if masks.attn_mask is not None:
        mask = masks.attn_mask
        if mask.dtype == torch.bool:
            seen = seen & to_numpy(mask, bool)
        else:
            seen = seen & ~(to_numpy(mask) <= torch.finfo(mask.dtype).min / 2)
    return seen


def bias_of(masks: Masks, dtype: type) -> np.ndarray | float:
    if masks.attn_mask is None or masks.attn_mask.dtype == torch.bool:
        return 0.0
    return to_numpy(masks.attn_mask, dtype)


def slope_bias(shape: tuple[int, ...], masks: Masks, dtype: type) -> np.ndarray | float:
    """What ``alibi_slopes`` add to scores of ``shape``; the last query stands at the last key."""
    slopes = masks.extra.get("alibi_slopes")
    if slopes is None:
        return 0.0
    queries, keys = shape[-2:]
    ahead = np.arange(keys)[None, :] - np.arange(queries)[:, None] - (keys - queries)
    return -to_numpy(slopes, dtype)[..., None, None] * np.abs(ahead).astype(dtype)


def capped(scores: np.ndarray, masks: Masks) -> np.ndarray:
    softcap = masks.extra.get("softcap")
    if softcap is None:
        return scores
    return scores.dtype.type(softcap) * np.tanh(scores / scores.dtype.type(softcap))


def left_by_sinks(logsumexp: np.ndarray, masks: Masks) -> np.ndarray:
    """[B, H, Q]: the part of the weights that goes to keys: e^lse / (e^lse + e^sink)."""
    sinks = masks.extra.get("sinks")
    if sinks is None:
        return np.ones_like(logsumexp)
    below = to_numpy(sinks, logsumexp.dtype.type)[:, None] - logsumexp
    with np.errstate(over="ignore"):
        return np.where(np.isneginf(logsumexp), 0, 1 / (1 + np.exp(below)))


def softmax(scores: Tensor, masks: Masks, scale: float = 1.0) -> np.ndarray:
    wide = truth_dtype(scores.dtype)
    return weights_of(to_numpy(scores, wide) * wide(scale), masks, wide)[0]


def linear(
    x: Tensor,
    matrix: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    multiplier: Tensor | None = None,
) -> np.ndarray:
    """``activation(x @ matrix.T + bias) * multiplier``."""
    wide = truth_dtype(x.dtype)
    sums: np.ndarray = to_numpy(x, wide) @ to_numpy(matrix, wide).T
    if bias is not None:
        sums = sums + to_numpy(bias, wide)
    result = activated(sums, activation)
    return result if multiplier is None else result * to_numpy(multiplier, wide)


def activated(x: np.ndarray, activation: str | None) -> np.ndarray:
    """Forms that lose nothing for negative x; ``erfc`` is float64 also where x is longer."""
    if activation is None:
        return x
    if activation == "relu":
        return np.where(x <= 0, x * 0, x)  # NaN stays
    if activation == "gelu":
        weights = [math.erfc(-each / math.sqrt(2)) / 2 for each in x.astype(np.float64).flat]
        return x * np.array(weights).reshape(x.shape)
    pi = np.arctan(x.dtype.type(1)) * 4
    u = x if activation == "silu" else np.sqrt(8 / pi) * (x + x.dtype.type("0.044715") * x**3)
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-u))


def scale_of(query: Tensor, scale: float | None) -> float:
    if scale is not None:
        return scale
    return 1.0 / math.sqrt(query.shape[3]) if query.shape[3] else 1.0


def attention(
    query: Tensor, key: Tensor, value: Tensor, masks: Masks, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Output [B, H, Q, Dv] and log-sum-exp [B, H, Q]."""
    wide = truth_dtype(query.dtype)
    q, k, v = (to_numpy(t, wide) for t in (query, key, value))
    groups = q.shape[1] // max(k.shape[1], 1)
    k, v = (np.repeat(t, groups, axis=1) for t in (k, v))
    scale = scale_of(query, scale)
    with np.errstate(invalid="ignore"):
        scores = capped(np.matmul(q, k.swapaxes(2, 3)) * wide(scale), masks)
        scores = scores + slope_bias(scores.shape, masks, wide)
        weights, logsumexp, seen = weights_of(scores, masks, wide)
        out = np.matmul(weights, np.where(np.isfinite(v), v, 0))
        if not np.isfinite(v).all():
            out = _with_nonfinite_values(out, seen, v)
        out = out * left_by_sinks(logsumexp, masks)[..., None]
    return out, logsumexp


def weights_of(
    scores: np.ndarray, masks: Masks, wide: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, log-sum-exp [B, H, Q] and what is visible, from scores without their bias."""
    seen = seen_keys(scores.shape, masks)  # type: ignore[arg-type]
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(seen, scores + bias_of(masks, wide), -np.inf)
        top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        exps = np.where(seen, np.exp(scores - np.where(seen.any(-1, keepdims=True), top, 0)), 0)
        total = exps.sum(axis=-1, keepdims=True)
        logsumexp = np.where(seen.any(-1, keepdims=True), top + np.log(total), -np.inf)
        weights = np.where(seen, exps / np.where(total == 0, 1, total), 0)
    return weights, logsumexp[..., 0], seen


def _with_nonfinite_values(out: np.ndarray, seen: np.ndarray, v: np.ndarray) -> np.ndarray:
    """NaN and Inf of visible values reach the output, those of masked values do not."""
    touch = seen.astype(np.float64)
    nan, above, below = (
        np.matmul(touch, kind.astype(np.float64)) > 0
        for kind in (np.isnan(v), np.isposinf(v), np.isneginf(v))
    )
    out = np.where(above, np.inf, np.where(below, -np.inf, out))
    return np.where(nan | (above & below), np.nan, out)


def torch_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
    """torch's fused operator; on CUDA its plain formula, as others round float32 to fewer bits."""
    if not query.is_cuda:
        return scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
