"""``score`` says of every decoder what stock's loss says, scaled and capped logits included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from masked_attn.cli.score.scoring import score_batch

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 50,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "Qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "Qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {}),
    "Mistral": ("MistralConfig", "MistralForCausalLM", {}),
    "Gemma 3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {"final_logit_softcapping": 3.0}),
    "Granite": ("GraniteConfig", "GraniteForCausalLM", {"logits_scaling": 4.0}),
    "Gemma 2": ("Gemma2Config", "Gemma2ForCausalLM", {"final_logit_softcapping": 3.0}),
    "SmolLM3": ("SmolLM3Config", "SmolLM3ForCausalLM", {}),
    "Phi-3": ("Phi3Config", "Phi3ForCausalLM", {}),
    "StableLM": ("StableLmConfig", "StableLmForCausalLM", {}),
    "GPT-NeoX": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {}),
    "OPT": ("OPTConfig", "OPTForCausalLM", {"ffn_dim": 64, "word_embed_proj_dim": 20}),
    "Mixtral": ("MixtralConfig", "MixtralForCausalLM", {"num_local_experts": 4}),
    "Qwen3-MoE": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", EXPERTS),
    "gpt-oss": ("GptOssConfig", "GptOssForCausalLM", {"num_local_experts": 4}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_of_a_row_is_stocks_loss_for_it_alone(family: str) -> None:
    config, head, more = FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(transformers, head)(getattr(transformers, config)(**SHAPE, **more)).eval()
    ids = torch.randint(1, 50, (2, 7))
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, :3] = False
    for row, scores in enumerate(score_batch(model, ids, mask)):
        alone = ids[row : row + 1][:, mask[row]]
        with torch.no_grad():
            loss = model(input_ids=alone, labels=alone).loss
        torch.testing.assert_close(-sum(scores) / len(scores), loss.item(), rtol=1e-4, atol=1e-5)
