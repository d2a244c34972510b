"""Small models from configs, equal under every transformers, and batches of prompts."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, PreTrainedModel

VOCAB = 101
# Levels of ``patch`` without which everything but attention has the bits of stock code.
STOCK_PARTS = {"fuse_activation": False, "fast_linear": False}
PAD = 0
# What the installed transformers calls the cache of GPT-2, in arguments and in what it returns.
CACHE = "cache" if "cache" in inspect.signature(GPT2Model.forward).parameters else "past_key_values"


def peft_knows_the_cache() -> bool:
    """Whether PEFT finds the cache in what ``generate`` of this transformers hands it.

    One that is older looks for the old name, and adds its virtual tokens anew in every step.
    """
    from peft import PeftModelForCausalLM

    return f'"{CACHE}"' in inspect.getsource(PeftModelForCausalLM.prepare_inputs_for_generation)


def fill(model: nn.Module, seed: int, std: float) -> None:
    """Random weights, large enough for sharp and varied predictions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            # Loud positions and quiet tokens: else a token that was seen predicts itself for ever.
            loudness = 3.0 if "wpe" in name else 0.5 if "wte" in name else 1.0
            noise = torch.randn(parameter.shape, generator=generator) * std * loudness
            parameter.copy_(noise + 1.0 if _is_norm_weight(parameter, model) else noise)


def _is_norm_weight(parameter: Tensor, model: nn.Module) -> bool:
    return any(
        parameter is getattr(m, "weight", None)
        for m in model.modules()
        if "Norm" in type(m).__name__
    )


def gpt2_config(layers: int = 2, heads: int = 2, embed: int = 32, **more: Any) -> GPT2Config:
    defaults: dict[str, Any] = {
        "vocab_size": VOCAB,
        "n_positions": 64,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": PAD,
    }
    return GPT2Config(n_layer=layers, n_head=heads, n_embd=embed, **{**defaults, **more})


def gpt2(
    layers: int = 2,
    heads: int = 2,
    embed: int = 32,
    *,
    seed: int = 1,
    std: float = 0.2,
    model_class: type[PreTrainedModel] = GPT2LMHeadModel,
    implementation: str = "sdpa",
    **config: Any,
) -> Any:
    """A GPT-2 in eval mode; equal arguments give equal weights, whatever the implementation."""
    settings = gpt2_config(layers, heads, embed, **config)
    settings._attn_implementation = implementation
    model = model_class(settings).eval()
    fill(model, seed, std)
    return model


def prompts(lengths: list[int], *, side: str = "left", seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ids and attention mask ``[batch, longest]`` of random prompts, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), PAD)
    mask = torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        place = slice(longest - length, longest) if side == "left" else slice(0, length)
        ids[row, place] = torch.randint(1, VOCAB, (length,), generator=generator)
        mask[row, place] = 1
    return ids, mask


def positions_of(mask: Tensor) -> Tensor:
    """Position ids that count real tokens only, as ``generate`` makes them."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


@torch.no_grad()
def generate(
    model: Any, ids: Tensor, mask: Tensor | None, new_tokens: int = 24, **more: Any
) -> Any:
    """Greedy unless told otherwise; the result holds ``sequences`` and ``logits`` by step."""
    return model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        **{"do_sample": False, **more},
        return_dict_in_generate=True,
        output_logits=True,
    )


def generate_alone(model: Any, ids: Tensor, mask: Tensor, new_tokens: int = 24) -> list[Any]:
    """Each prompt of the batch without its padding, one call per prompt."""
    rows = [ids[row, mask[row].bool()][None] for row in range(len(ids))]
    return [generate(model, row, torch.ones_like(row), new_tokens) for row in rows]
