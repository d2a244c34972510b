"""Attention by stock code, in a layer of a patched model that follows no plan."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..instance.attention_config import AttentionConfig

__all__ = ["stock_attention"]


def stock_attention(
    module: nn.Module,
    config: AttentionConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """What the layer would have run without the patch.

    Args:
        module: the attention module.
        config: its view of the model's config.
        query: ``[batch, heads, queries, head_dim]``.
        key: ``[batch, kv_heads, keys, head_dim]``.
        value: ``[batch, kv_heads, keys, value_dim]``.
        attention_mask: as stock code made it.
        kwargs: the other arguments of the attention function.
    """
    implementation = config.original._attn_implementation
    # GPT-2 has a second eager attention, which it would have chosen by its config.
    if implementation == "eager" and getattr(module, "reorder_and_upcast_attn", False):
        upcast: Any = module._upcast_and_reordered_attn
        out, weights = upcast(query, key, value, attention_mask)
        return out, weights
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, config.eager)
    out, weights = attend(module, query, key, value, attention_mask, **kwargs)
    return out, weights
