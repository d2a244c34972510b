"""Encoders: every token sees every other; what is read besides the tokens is the first slot."""

from __future__ import annotations

from typing import Any

from .family import ModelFamily, from_zero

__all__ = ["ENCODERS"]


def _refused(config: Any) -> str | None:
    if getattr(config, "is_decoder", False):
        return "it is a decoder (is_decoder=True)"
    if getattr(config, "add_cross_attention", False):
        return "it has cross attention"
    return None


def _after_padding(backbone: Any) -> int:
    """RoBERTa's positions begin behind the id that was the pad's when the model was made."""
    return int(backbone.embeddings.padding_idx) + 1


def _bert(name: str, folder: str, prefix: str, *, pooler: bool, roberta: bool) -> ModelFamily:
    """A family that is BERT but for its names; ``roberta`` positions count ids."""
    return ModelFamily(
        name=name,
        folder=folder,
        backbone=f"{prefix}Model",
        layers="encoder.layer",
        layer=f"{prefix}Layer",
        attention="attention.self",
        attention_class=f"{prefix}SelfAttention",
        causal=False,
        dropout="dropout",
        pooler="pooler" if pooler else None,
        first_position=_after_padding if roberta else from_zero,
        counts_ids=roberta,
        refused=_refused,
    )


ENCODERS = (
    _bert("BERT", "bert", "Bert", pooler=True, roberta=False),
    _bert("RoBERTa", "roberta", "Roberta", pooler=True, roberta=True),
    _bert("XLM-RoBERTa", "xlm_roberta", "XLMRoberta", pooler=True, roberta=True),
    _bert("Electra", "electra", "Electra", pooler=False, roberta=False),
    ModelFamily(
        name="DistilBERT",
        folder="distilbert",
        backbone="DistilBertModel",
        layers="transformer.layer",
        layer="TransformerBlock",
        attention="attention",
        attention_class="DistilBertSelfAttention",
        causal=False,
        dropout="dropout",
        refused=_refused,
    ),
    ModelFamily(
        name="ModernBERT",
        folder="modernbert",
        backbone="ModernBertModel",
        layers="layers",
        layer="ModernBertEncoderLayer",
        attention="attn",
        attention_class="ModernBertAttention",
        causal=False,
        refused=_refused,
    ),
)
