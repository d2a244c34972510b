"""Attention over keys that are all there: which of three ways, for the patch and the interface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ...functional import masked_attention
from ..call.visibility import Visibility, wants_grad
from ..trace.trace import MASKED, STOCK, TEXTBOOK
from .textbook import textbook_attention

__all__ = ["Layer", "attend"]


@dataclass(frozen=True)
class Layer:
    """What a layer says of its attention, apart from masks.

    Attributes:
        module: the attention module.
        scale: factor of the scores; None means ``head_dim ** -0.5``.
        dropout: probability of dropping a weight.
        window: sliding window, in keys.
    """

    module: nn.Module
    scale: float | None
    dropout: float
    window: int | None


def attend(
    layer: Layer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Visibility,
    *,
    textbook: bool,
    grad: bool | None = None,
) -> tuple[str, Tensor, Tensor | None]:
    """The path that ran, ``[batch, queries, heads, value_dim]``, and the weights of the textbook.

    Args:
        layer: the layer.
        query: ``[batch, heads, queries, head_dim]``.
        key: ``[batch, kv_heads, keys, head_dim]``.
        value: ``[batch, kv_heads, keys, value_dim]``.
        seen: the masks; keys behind those that they speak of do not count.
        textbook: run step by step.
        grad: whether a gradient is needed; None looks.
    """
    key, value = key[:, :, : seen.keys], value[:, :, : seen.keys]
    if grad is None:
        grad = wants_grad(query, key, value, seen.attn_mask)
    if not textbook and not grad and layer.dropout == 0.0:
        out = masked_attention(query, key, value, scale=layer.scale, **seen.arguments())
        return MASKED, out.transpose(1, 2), None
    if key.dtype != query.dtype and not torch.is_autocast_enabled(query.device.type):
        key, value = key.to(query.dtype), value.to(query.dtype)
    if textbook:
        out, weights = textbook_attention(
            query,
            key,
            value,
            seen,
            scale=query.shape[-1] ** -0.5 if layer.scale is None else layer.scale,
            dropout=layer.dropout,
            upcast=getattr(layer.module, "reorder_and_upcast_attn", False),
        )
        return TEXTBOOK, out.transpose(1, 2), weights
    out, _ = sdpa_attention_forward(
        layer.module,
        query,
        key,
        value,
        seen.dense(query),
        dropout=layer.dropout,
        scaling=layer.scale,
        is_causal=seen.causal,
    )
    return STOCK, out, None
