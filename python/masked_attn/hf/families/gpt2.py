"""GPT-2: learned positions, one layer for queries, keys and values, perhaps cross attention."""

from __future__ import annotations

from .family import ModelFamily

__all__ = ["GPT2"]

GPT2 = ModelFamily(
    name="GPT-2",
    folder="gpt2",
    backbone="GPT2Model",
    layers="h",
    layer="GPT2Block",
    attention="attn",
    attention_class="GPT2Attention",
    cross_attention="crossattention",
    folds_leading=True,
    dropout="attn_dropout",
)
