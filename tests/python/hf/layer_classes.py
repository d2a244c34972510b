"""Small instances of every class with a recipe, and whole models around them."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import transformers
from torch import nn

from masked_attn.hf.layers.recipes import RECIPES

WIDTH, INNER, VOCAB = 48, 70, 99
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 16}
STABLELM = {**SIZES, "num_key_value_heads": 2, "partial_rotary_factor": 0.5}
DISTILBERT = {"vocab_size": VOCAB, "dim": WIDTH, "hidden_dim": INNER, "n_layers": 2, "n_heads": 4}
# Of each family: its config, the model with a head, and what goes into the config.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {**GROUPED, "mlp_bias": True}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", GROUPED),
    "mistral": ("MistralConfig", "MistralForCausalLM", GROUPED),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", GROUPED),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", GROUPED),
    "granite": ("GraniteConfig", "GraniteForCausalLM", GROUPED),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM", GROUPED),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", SIZES),
    "stablelm": ("StableLmConfig", "StableLmForCausalLM", STABLELM),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", SIZES),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**GROUPED, "mlp_only_layers": [0, 1]}),
    "bert": ("BertConfig", "BertForMaskedLM", SIZES),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", SIZES),
    "xlm_roberta": ("XLMRobertaConfig", "XLMRobertaForMaskedLM", SIZES),
    "electra": ("ElectraConfig", "ElectraForMaskedLM", {**SIZES, "embedding_size": 32}),
    "distilbert": ("DistilBertConfig", "DistilBertForMaskedLM", DISTILBERT),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        {**SIZES, "mlp_bias": True, "sep_token_id": 2, "cls_token_id": 1},
    ),
}
# GPT-2 has tests of its own.
CLASSES = [(module.split(".")[2], name) for module, name in RECIPES if "gpt2" not in module]


def whole_model(family: str, **config: Any) -> Any:
    """A model with its head, in eval mode, with the same random weights at each call."""
    kind, head, settings = MODELS[family]
    torch.manual_seed(3)
    model = getattr(transformers, head)(getattr(transformers, kind)(**settings, **config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "orm" not in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return model


def instance(family: str, name: str, **config: Any) -> nn.Module:
    """The first instance of a class in the model of its family."""
    kind = getattr(importlib.import_module(f"transformers.models.{family}.modeling_{family}"), name)
    return next(m for m in whole_model(family, **config).modules() if type(m) is kind)
