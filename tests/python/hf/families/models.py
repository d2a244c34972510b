"""Small models of every family, from configs alone, and how stock code is asked about them.

No head of attention is like another: fewer key heads than heads, heads that do not fill the width,
windows in all, some or none of the layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import transformers
from hf.models import VOCAB, fill
from torch import Tensor

WINDOW = 4
FIRST_WORD = 5  # below it are pads, the ends of sentences and masks

DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    # A token that was seen would predict itself for ever.
    "tie_word_embeddings": False,
}
ENCODER = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA = {
    **DECODER,
    "num_hidden_layers": 3,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
# A cap that most scores feel.
GEMMA2 = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 20.0}
# Its four multipliers are 1 where nobody says otherwise; its bias is off.
GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
    "attention_bias": True,
    "mlp_bias": True,
}


NO_GROUPS = {name: size for name, size in DECODER.items() if name != "num_key_value_heads"}
STABLELM = {"partial_rotary_factor": 0.5, "use_qkv_bias": True}
# These sizes do not repeat one token for ever.
OPT_350M = {"ffn_dim": 44, "num_attention_heads": 8, "word_embed_proj_dim": 20}
NEOX = {"intermediate_size": 56, "num_hidden_layers": 3}
NEOX_SERIAL = {
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "use_parallel_residual": False,
}
# Stock experts multiply bfloat16 where rows are a multiple of 16 bytes.
EXPERTS = {"num_experts_per_tok": 2, "head_dim": 16, "intermediate_size": 48}
QWEN3_MOE = {
    **EXPERTS,
    "num_experts": 4,
    "moe_intermediate_size": 24,
    "mlp_only_layers": [0],
}
GPT_OSS = {
    **EXPERTS,
    "num_local_experts": 4,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


@dataclass(frozen=True)
class Family:
    """A model family of transformers, at a size for tests."""

    name: str
    kind: str  # "decoder" or "encoder"
    config_class: str
    prefix: str  # of the names of its classes
    settings: dict[str, Any] = field(repr=False)
    windows: bool = False  # some layer sees only what is near
    classes: dict[str, str] = field(default_factory=dict, repr=False)  # where the prefix is another
    plain: bool = True  # torch's own attention knows all that its layers say
    experts: bool = False  # bits of a row depend on the batch

    def config(self, **changes: Any) -> Any:
        wanted = getattr(transformers, self.config_class, None)
        if wanted is None:
            pytest.skip(f"transformers {transformers.__version__} has no {self.config_class}")
        settings = {**self.settings, **changes}
        implementation = settings.pop("implementation", "eager")
        if implementation == "sdpa" and not self.plain:
            implementation = "eager"
        config = wanted(**settings)
        config._attn_implementation = implementation
        return config

    def model_class(self, head: str) -> Any:
        name = self.classes.get(head, self.prefix + head)
        found = getattr(transformers, name, None)
        if found is None:
            pytest.skip(f"transformers {transformers.__version__} has no {name}")
        return found

    def build(self, head: str = "Model", *, seed: int = 1, std: float = 0.2, **config: Any) -> Any:
        """In eval mode; equal arguments give equal weights, whatever the implementation."""
        settings = self.config(**config)
        model = self.model_class(head)(settings).eval()
        fill(model, seed, std)
        if not config.get("tie_word_embeddings", self.settings.get("tie_word_embeddings", True)):
            return model
        model.tie_weights()
        return model

    def first_position(self) -> int:
        """Of a sequence: RoBERTa begins behind the id of the pad."""
        return self.settings["pad_token_id"] + 1 if "oberta" in self.config_class.lower() else 0

    def positions(self, mask: Tensor) -> Tensor:
        """Position ids ``[batch, slots]`` that count real tokens only.

        Pads have that of the first token; RoBERTa's have one of their own, as in stock code.
        """
        count = mask.long().cumsum(-1)
        if self.first_position():
            return self.first_position() - 1 + count * mask
        return (count - 1).clamp(min=0)


def _decoder(name: str, prefix: str, windows: bool = False, **settings: Any) -> Family:
    config = f"{prefix}Config"
    return Family(name, "decoder", config, prefix, {**DECODER, **settings}, windows)


def _without_groups(name: str, prefix: str, **settings: Any) -> Family:
    return replace(_decoder(name, prefix), settings={**NO_GROUPS, **settings})


def _experts(name: str, prefix: str, windows: bool = False, **settings: Any) -> Family:
    return replace(_decoder(name, prefix, windows, **settings), experts=True)


def _gemma3(name: str, **settings: Any) -> Family:
    classes = {
        "Model": "Gemma3TextModel",
        "ForSequenceClassification": "Gemma3TextForSequenceClassification",
    }
    merged = {**GEMMA, **settings}
    return Family(name, "decoder", "Gemma3TextConfig", "Gemma3", merged, True, classes)


def _encoder(name: str, prefix: str, config: str, **settings: Any) -> Family:
    return Family(name, "encoder", config, prefix, {**ENCODER, **settings})


DISTILBERT = {
    "vocab_size": VOCAB,
    "dim": 32,
    "hidden_dim": 44,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
MODERNBERT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "local_attention": 2 * WINDOW,
    "layer_types": ["full_attention", "sliding_attention"] * 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
DECODERS = [
    _decoder("llama", "Llama"),
    _decoder("llama3_rope", "Llama", rope_parameters=LLAMA3),
    _decoder("llama_biases", "Llama", attention_bias=True, mlp_bias=True),
    _decoder("qwen2", "Qwen2"),
    _decoder(
        "qwen2_windows",
        "Qwen2",
        windows=True,
        use_sliding_window=True,
        sliding_window=WINDOW,
        layer_types=["full_attention", "sliding_attention"],
    ),
    _decoder("qwen3", "Qwen3", head_dim=16),
    _decoder("mistral", "Mistral", windows=True, sliding_window=WINDOW),
    _decoder("mistral_no_window", "Mistral", sliding_window=None),
    _gemma3("gemma3"),
    _gemma3("gemma3_256", head_dim=256, query_pre_attn_scalar=256, num_key_value_heads=1),
    _decoder("granite", "Granite", **GRANITE),
    _decoder("smollm3", "SmolLM3", no_rope_layers=[1, 0]),
    _decoder(
        "smollm3_windows",
        "SmolLM3",
        windows=True,
        no_rope_layers=[1, 0],
        use_sliding_window=True,
        sliding_window=WINDOW,
    ),
    _decoder("phi3", "Phi3", windows=True, sliding_window=WINDOW, partial_rotary_factor=0.75),
    _decoder("stablelm", "StableLm", **STABLELM),
    _decoder(
        "stablelm_parallel", "StableLm", **STABLELM, use_parallel_residual=True, qk_layernorm=True
    ),
    _without_groups("gpt_neox", "GPTNeoX", **NEOX),
    _without_groups("gpt_neox_serial", "GPTNeoX", **NEOX_SERIAL),
    _without_groups("opt", "OPT", ffn_dim=36),
    # As OPT-350M: norms behind, and embeddings that are narrower than the layers.
    _without_groups("opt_350m", "OPT", **OPT_350M, do_layer_norm_before=False),
    _experts("mixtral", "Mixtral", num_local_experts=4, **EXPERTS),
    _experts("qwen3_moe", "Qwen3Moe", **QWEN3_MOE),
]
# Their scores are bent, or a sink takes a part of the weight.
_NOT_PLAIN = [
    _decoder("gemma2", "Gemma2", True, **{**GEMMA, **GEMMA2}),
    _experts("gpt_oss", "GptOss", True, **GPT_OSS),
]
DECODERS += [replace(family, plain=False) for family in _NOT_PLAIN]
ENCODERS = [
    _encoder("bert", "Bert", "BertConfig"),
    _encoder("roberta", "Roberta", "RobertaConfig", pad_token_id=1),
    _encoder("xlm_roberta", "XLMRoberta", "XLMRobertaConfig", pad_token_id=1),
    Family("distilbert", "encoder", "DistilBertConfig", "DistilBert", DISTILBERT),
    # Its embeddings are narrower than its layers.
    _encoder("electra", "Electra", "ElectraConfig", embedding_size=20),
    Family("modernbert", "encoder", "ModernBertConfig", "ModernBert", MODERNBERT, True),
]
FAMILIES = {family.name: family for family in [*DECODERS, *ENCODERS]}


def each(families: list[Family]) -> Any:
    """One test for each family, as the argument ``family``."""
    return pytest.mark.parametrize("family", families, ids=[family.name for family in families])


def some(*names: str) -> Any:
    return each([FAMILIES[name] for name in names])


def in_float64(model: Any) -> Any:
    """The model, its experts in plain code: that of other kinds knows no float64."""
    if any("Experts" in type(module).__name__ for module in model.modules()):
        model.set_experts_implementation("eager")
    return model.double()


@torch.no_grad()
def quietly(model: Any, *args: Any, **more: Any) -> Any:
    """A forward without gradients."""
    return model(*args, **more)
