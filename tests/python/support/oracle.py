"""The truth that the operators are measured against: full matrices in numpy, float64 or longer.

It shares no line with ``masked_attn.reference``. ``eager_*`` is the same arithmetic as a user would
write it in torch, in the dtype under test: the yardstick of the accuracy criterion.
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
    """The mask arguments of one call."""

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
        return replace(self, key_mask=key_mask, attn_mask=attn_mask)


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


def softmax(scores: Tensor, masks: Masks, scale: float = 1.0) -> np.ndarray:
    wide = truth_dtype(scores.dtype)
    return _weights(to_numpy(scores, wide) * wide(scale), masks, wide)[0]


def attention(
    query: Tensor, key: Tensor, value: Tensor, masks: Masks, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Output [B, H, Q, Dv] and log-sum-exp [B, H, Q]."""
    wide = truth_dtype(query.dtype)
    q, k, v = (to_numpy(t, wide) for t in (query, key, value))
    groups = q.shape[1] // max(k.shape[1], 1)
    k, v = (np.repeat(t, groups, axis=1) for t in (k, v))
    if scale is None:
        scale = 1.0 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    with np.errstate(invalid="ignore"):
        scores = np.matmul(q, k.swapaxes(2, 3)) * wide(scale)
        weights, logsumexp, seen = _weights(scores, masks, wide)
        out = np.matmul(weights, np.where(np.isfinite(v), v, 0))
        if not np.isfinite(v).all():
            out = _with_nonfinite_values(out, seen, v)
    return out, logsumexp


def _weights(
    scores: np.ndarray, masks: Masks, wide: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def eager_softmax(scores: Tensor, masks: Masks, scale: float = 1.0) -> Tensor:
    return _eager_weights(scores * scale, masks)[0]


def eager_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masks: Masks,
    scale: float | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = dtype or query.dtype
    query, key, value = (t.detach().to(dtype) for t in (query, key, value))
    groups = query.shape[1] // max(key.shape[1], 1)
    key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    if scale is None:
        scale = query.shape[3] ** -0.5 if query.shape[3] else 1.0
    weights, logsumexp = _eager_weights((query * scale) @ key.transpose(2, 3), masks)
    return weights @ value.nan_to_num(0.0, 0.0, 0.0), logsumexp


def torch_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
    """torch's fused operator; on CUDA its plain formula, as others round float32 to fewer bits."""
    if not query.is_cuda:
        return scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


def _eager_weights(scores: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
    seen = torch.from_numpy(seen_keys(tuple(scores.shape), masks).copy()).to(scores.device)
    if masks.attn_mask is not None and masks.attn_mask.dtype != torch.bool:
        scores = scores + masks.attn_mask.to(scores.dtype)
    scores = scores.masked_fill(~seen, -math.inf)
    weights = scores.softmax(dim=-1).masked_fill(~seen.any(-1, keepdim=True), 0.0)
    return weights, scores.logsumexp(dim=-1)
