"""GPT-2 124M with random weights, stock and patched, and the prompts that it gets."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import masked_attn
from masked_attn.cli.bench.systems import copy_of
from masked_attn.cli.bench.workload import WORKLOADS, Workload

from .trial import OURS

__all__ = ["STOCK", "make_pair", "workloads"]

STOCK = "stock, sdpa"


def make_pair(quick: bool, device: str, dtype: torch.dtype) -> dict[str, GPT2LMHeadModel]:
    """The stock model, and a patched copy with the same weights in memory."""
    tiny = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64}
    config = GPT2Config(**(tiny if quick else {}), bos_token_id=None, eos_token_id=None)
    stock = GPT2LMHeadModel(config).eval().to(device, dtype)
    stock.generation_config.eos_token_id = None
    stock.generation_config.pad_token_id = 0
    return {STOCK: stock, OURS: masked_attn.patch(copy_of(stock))}


def workloads(quick: bool) -> list[Workload]:
    """W1 (ragged), W2 (equal) and W3 (short), or something tiny."""
    return [Workload("W1 ragged", (4, 8), 32)] if quick else list(WORKLOADS.values())
