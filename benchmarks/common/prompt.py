"""Attention over a prompt: ours and the rivals, each as a function of query, key and value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import masked_attn

from .timing import Contender
from .visibility import Visibility
from .workloads import Layer

__all__ = ["Attention", "eager", "ours", "over_layers", "sdpa", "sdpa_with_mask"]

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def over_layers(attention: Attention, layers: list[Layer]) -> Contender:
    """Run ``attention`` on the tensors of every layer, as a model does; times are per layer."""

    def run() -> Tensor:
        for layer in layers:
            result = attention(*layer)
        return result

    return Contender(run, calls=len(layers))


def ours(seen: Visibility) -> Attention:
    """``masked_attention`` with the padding mask and the causal flag."""
    keywords = seen.ours

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result: Tensor = masked_attn.masked_attention(query, key, value, **keywords)
        return result

    return attention


def sdpa(seen: Visibility) -> Attention:
    """``scaled_dot_product_attention`` with the cheapest arguments that say the same."""
    return _sdpa(seen.sdpa)


def sdpa_with_mask(seen: Visibility) -> Attention:
    """``scaled_dot_product_attention`` with a boolean mask."""
    return _sdpa({"attn_mask": seen.dense})


def _sdpa(keywords: dict[str, Any]) -> Attention:
    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, key, value, **keywords)

    return attention


def eager(seen: Visibility) -> Attention:
    """Scores, mask, softmax and weighted sum, one torch call after the other."""
    mask = seen.dense if seen.causal or seen.key_mask is not None else None

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = torch.where(mask, scores, -torch.inf)
        result: Tensor = scores.softmax(-1) @ value
        return result

    return attention
