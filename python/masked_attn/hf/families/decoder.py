"""Decoders with rotary positions: a new one of this kind is one line of names."""

from __future__ import annotations

from typing import Any

from .family import ModelFamily

__all__ = ["DECODERS"]


def _refused(config: Any) -> str | None:
    """What the layers of some configs do beside plain attention."""
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its scores are bent by attn_logit_softcapping"
    if getattr(config, "use_bidirectional_attention", None):
        return "its attention looks both ways (use_bidirectional_attention)"
    return None


def _decoder(
    name: str, folder: str, prefix: str, backbone: str | None = None, type_name: str | None = None
) -> ModelFamily:
    """A family whose classes are named after ``prefix``."""
    return ModelFamily(
        name=name,
        folder=folder,
        type_name=type_name,
        backbone=backbone or f"{prefix}Model",
        layers="layers",
        layer=f"{prefix}DecoderLayer",
        attention="self_attn",
        attention_class=f"{prefix}Attention",
        refused=_refused,
    )


DECODERS = (
    _decoder("Llama", "llama", "Llama"),
    _decoder("Qwen2", "qwen2", "Qwen2"),
    _decoder("Qwen3", "qwen3", "Qwen3"),
    _decoder("Mistral", "mistral", "Mistral"),
    _decoder("Gemma 3", "gemma3", "Gemma3", "Gemma3TextModel", "gemma3_text"),
    _decoder("Granite", "granite", "Granite"),
)
