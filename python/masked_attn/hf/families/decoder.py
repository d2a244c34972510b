"""Decoders: a new one whose names are as usual is one line."""

from __future__ import annotations

from typing import Any

from .family import ModelFamily

__all__ = ["DECODERS"]


def _looks_both_ways(config: Any) -> str | None:
    if getattr(config, "use_bidirectional_attention", None):
        return "its attention looks both ways (use_bidirectional_attention)"
    return None


def _refused(config: Any) -> str | None:
    """What the layers of some configs do beside plain attention."""
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its scores are bent by attn_logit_softcapping"
    return _looks_both_ways(config)


def _decoder(name: str, folder: str, prefix: str, **others: Any) -> ModelFamily:
    """A family whose classes are named after ``prefix``; ``others`` are other columns."""
    columns: dict[str, Any] = {
        "name": name,
        "folder": folder,
        "backbone": f"{prefix}Model",
        "layers": "layers",
        "layer": f"{prefix}DecoderLayer",
        "attention": "self_attn",
        "attention_class": f"{prefix}Attention",
        "refused": _refused,
    }
    return ModelFamily(**{**columns, **others})


EXPERTS = {"router": "router_logits"}
DECODERS = (
    _decoder("Llama", "llama", "Llama"),
    _decoder("Qwen2", "qwen2", "Qwen2"),
    _decoder("Qwen3", "qwen3", "Qwen3"),
    _decoder("Mistral", "mistral", "Mistral"),
    _decoder("Gemma 2", "gemma2", "Gemma2", refused=_looks_both_ways),
    _decoder("Gemma 3", "gemma3", "Gemma3", backbone="Gemma3TextModel", type_name="gemma3_text"),
    _decoder("Granite", "granite", "Granite"),
    _decoder("SmolLM3", "smollm3", "SmolLM3"),
    _decoder("Phi-3", "phi3", "Phi3"),
    _decoder("StableLM", "stablelm", "StableLm", keywords=False),
    _decoder(
        "GPT-NeoX",
        "gpt_neox",
        "GPTNeoX",
        layer="GPTNeoXLayer",
        attention="attention",
        cache="layer_past",
    ),
    _decoder(
        "OPT",
        "opt",
        "OPT",
        backbone="OPTDecoder",
        dropout="dropout",
        counts_mask=True,
        parts_jumps=False,
    ),
    _decoder("Mixtral", "mixtral", "Mixtral", **EXPERTS),
    _decoder("Qwen3-MoE", "qwen3_moe", "Qwen3Moe", **EXPERTS),
    _decoder("gpt-oss", "gpt_oss", "GptOss", parts_jumps=False, **EXPERTS),
)
