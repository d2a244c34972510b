"""Attention over keys that are all there: which of three ways, for the patch and the interface.

The surprise: where gradients or dropout need torch's attention, and it does not know all that the
layer says, attention runs step by step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ...functional import masked_attention, packed_attention
from ..call.sequences import Sequences
from ..call.visibility import Visibility, wants_grad
from ..trace.trace import MASKED, PACKED, STOCK, TEXTBOOK
from .layer import Layer
from .textbook import textbook_attention

__all__ = ["attend", "attend_in_sequences"]


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
        grad = wants_grad(query, key, value, seen.attn_mask, layer.sinks)
    if not textbook and not grad and layer.dropout == 0.0:
        out = masked_attention(query, key, value, **layer.scores(), **seen.arguments())
        return MASKED, out.transpose(1, 2), None
    if key.dtype != query.dtype and not torch.is_autocast_enabled(query.device.type):
        key, value = key.to(query.dtype), value.to(query.dtype)
    if textbook or not layer.is_plain:
        out, weights = textbook_attention(
            query,
            key,
            value,
            seen,
            scale=query.shape[-1] ** -0.5 if layer.scale is None else layer.scale,
            softcap=layer.softcap,
            sinks=layer.sinks,
            dropout=layer.dropout,
            upcast=getattr(layer.module, "reorder_and_upcast_attn", False),
        )
        return TEXTBOOK, out.transpose(1, 2), weights if textbook else None
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


def attend_in_sequences(
    layer: Layer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Sequences,
    *,
    causal: bool,
    textbook: bool,
) -> tuple[str, Tensor, Tensor | None]:
    """``attend`` where the one row of the batch holds several sequences, back to back.

    Args:
        layer: the layer.
        query: ``[1, heads, tokens, head_dim]``.
        key: ``[1, kv_heads, tokens, head_dim]``.
        value: ``[1, kv_heads, tokens, value_dim]``.
        sequences: where they begin.
        causal: whether a token sees what comes before it only.
        textbook: run step by step.
    """
    sequences = sequences.on(query.device)
    if textbook or layer.dropout > 0.0 or wants_grad(query, key, value, layer.sinks):
        seen = sequences.visibility(query.shape[2], causal=causal, window=layer.window)
        return attend(layer, query, key, value, seen, textbook=textbook)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    out = packed_attention(
        query,
        key,
        value,
        sequences.cu_seqlens,
        sequences.longest,
        causal=causal,
        window=layer.window,
        **layer.scores(),
    )
    return PACKED, out[None], None
