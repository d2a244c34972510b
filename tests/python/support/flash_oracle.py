"""What flash-attn documents, pair by pair in plain loops of Python, in float64.

It shares no line with ``masked_attn``. Tensors lie as in flash-attn: ``[seqlen, heads, head_dim]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

ACCURATE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}


@dataclass(frozen=True)
class Call:
    """The arguments that say how scores are treated."""

    causal: bool = False
    window_size: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    softmax_scale: float | None = None
    alibi_slopes: Tensor | None = None

    def kwargs(self) -> dict:
        return dict(vars(self))

    def of_row(self, row: int) -> Call:
        slopes = self.alibi_slopes
        if slopes is None or slopes.dim() == 1:
            return self
        return replace(self, alibi_slopes=slopes[row])

    def sees(self, position: int, key: int) -> bool:
        left, right = self.window_size
        return not (
            (self.causal and key > position)
            or (left >= 0 and key < position - left)
            or (right >= 0 and key > position + right)
        )


def sequence(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """One sequence: ``[seqlen_q, heads, value_dim]``, and the log-sum-exp ``[heads, seqlen_q]``."""
    q, k, v = (tensor.detach().double().cpu() for tensor in (q, k, v))
    queries, heads, head_dim = q.shape
    keys, heads_k, value_dim = v.shape
    scale = head_dim**-0.5 if call.softmax_scale is None else call.softmax_scale
    out = torch.zeros(queries, heads, value_dim, dtype=torch.float64)
    lse = torch.full((heads, queries), -math.inf, dtype=torch.float64)
    for head in range(heads):
        shared = head * heads_k // heads
        for i in range(queries):
            position = i + keys - queries
            seen = [j for j in range(keys) if call.sees(position, j)]
            if not seen:
                continue
            scores = []
            for j in seen:
                score = scale * float(q[i, head] @ k[j, shared])
                if call.softcap > 0:
                    score = call.softcap * math.tanh(score / call.softcap)
                if call.alibi_slopes is not None:
                    score -= float(call.alibi_slopes[head]) * abs(position - j)
                scores.append(score)
            top = max(scores)
            weights = [math.exp(score - top) for score in scores]
            lse[head, i] = top + math.log(sum(weights))
            for j, weight in zip(seen, weights, strict=True):
                out[i, head] += weight / sum(weights) * v[j, shared]
    return out, lse


def batch(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """``[batch, seqlen, heads, head_dim]``, and the log-sum-exp ``[batch, heads, seqlen]``."""
    rows = [sequence(q[b], k[b], v[b], call.of_row(b)) for b in range(q.shape[0])]
    return torch.stack([out for out, _ in rows]), torch.stack([lse for _, lse in rows])


def packed(
    q: Tensor, k: Tensor, v: Tensor, queries: list[int], keys: list[int], call: Call
) -> tuple[Tensor, Tensor]:
    """``[tokens, heads, head_dim]``, and the log-sum-exp ``[heads, tokens]``."""
    parts = zip(q.split(queries), k.split(keys), v.split(keys), strict=True)
    rows = [sequence(*part, call.of_row(b)) for b, part in enumerate(parts)]
    return torch.cat([out for out, _ in rows]), torch.cat([lse for _, lse in rows], dim=1)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, positions: list[int], interleaved: bool) -> Tensor:
    """``x``: ``[tokens, heads, head_dim]``, turned pair by pair, in the dtype of ``x``."""
    result = x.detach().double().cpu().clone()
    half = cos.shape[1]
    for token, position in enumerate(positions):
        for pair in range(half):
            one, two = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + half)
            c, s = float(cos[position, pair]), float(sin[position, pair])
            a, b = x[token, :, one].double().cpu(), x[token, :, two].double().cpu()
            result[token, :, one] = a * c - b * s
            result[token, :, two] = a * s + b * c
    return result.to(x.dtype)


def assert_near(ours: Tensor, truth: Tensor, dtype: torch.dtype | None = None) -> None:
    """Within rounding of ``dtype`` (that of ``ours``), infinities in the same places."""
    assert ours.shape == truth.shape
    bound = ACCURATE[dtype or ours.dtype]
    torch.testing.assert_close(ours.double().cpu(), truth, rtol=bound, atol=bound)


def tensors(
    *shapes: tuple[int, ...], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> list[Tensor]:
    return [torch.randn(*shape, dtype=torch.float64).to(device, dtype) for shape in shapes]
