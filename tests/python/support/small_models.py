"""Small models in a folder, where a document names one on the hub and there is no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import masked_attn

DEMO_MODEL = Path(masked_attn.__file__).parent / "demo_model"
# The name that documents give the name of a model, and the classes of that model here.
KINDS = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "bert": ("BertConfig", "BertModel")}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def folder_of(kind: str, around: Path) -> str:
    """A model that can be loaded by this path; ``name`` is the one of the demo."""
    if kind == "name":
        return str(DEMO_MODEL)
    import transformers

    folder = around / f"small_{kind}"
    if not folder.exists():
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(DEMO_MODEL)
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(folder)
        config, model = (getattr(transformers, name) for name in KINDS[kind])
        tokens = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        model(config(**SIZES, **tokens)).save_pretrained(folder)
    return str(folder)
