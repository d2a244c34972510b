"""Models by name, with random weights: made from a config, nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import transformers

import masked_attn
from common.gpt2 import STOCK
from common.trial import OURS
from masked_attn.cli.bench.systems import copy_of

__all__ = ["DECODERS", "ENCODERS", "INTERFACE", "Shape", "systems"]

INTERFACE = "stock, masked_attn"  # attn_implementation="masked_attn" and no patch

TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 300,
}


@dataclass(frozen=True)
class Shape:
    """A model of transformers.

    Args:
        classes: names of its config and of its class.
        settings: of the config.
    """

    classes: tuple[str, str]
    settings: dict[str, Any]

    def build(self, tiny: bool) -> Any:
        """A float32 model in eval mode; ``tiny`` keeps only its kind."""
        config_class, model_class = (getattr(transformers, name) for name in self.classes)
        model = model_class(config_class(**{**self.settings, **(TINY if tiny else {})})).eval()
        model.set_attn_implementation("sdpa")
        return model


def _decoder(family: str, layers: int, width: int, heads: tuple[int, int], **more: int) -> Shape:
    """``heads``: those of queries, and those of keys and values."""
    settings = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    return Shape((f"{family}Config", f"{family}ForCausalLM"), {**settings, **more})


DECODERS = {
    "llama-135m": _decoder("Llama", 30, 576, (9, 3), intermediate_size=1536, vocab_size=49152),
    "llama-0.5b": _decoder("Llama", 24, 896, (14, 2), intermediate_size=4864, vocab_size=32000),
    "qwen2-0.5b": _decoder("Qwen2", 24, 896, (14, 2), intermediate_size=4864, vocab_size=151936),
    "pythia-160m": _decoder("GPTNeoX", 12, 768, (12, 12), intermediate_size=3072, vocab_size=50304),
}
ENCODERS = {"bert-base": Shape(("BertConfig", "BertModel"), {})}  # the defaults are its sizes


def systems(stock: Any) -> dict[str, Any]:
    """The stock model, and copies with the same weights in memory that run on ours."""
    masked_attn.register_attention()
    interface = copy_of(stock)
    interface.set_attn_implementation("masked_attn")
    return {STOCK: stock, INTERFACE: interface, OURS: masked_attn.patch(copy_of(stock))}
