"""What all systems get: one GPT-2 of fixed random weights, the prompts, and stock's tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from masked_attn.cli.bench.running import generate
from masked_attn.cli.bench.workload import WORKLOADS, Workload

from .workers.serve import Rows, left_padded

__all__ = ["Material", "make_material", "workloads"]


@dataclass(frozen=True)
class Material:
    """Files for the workers, and what stock float32 continues the prompts with.

    Args:
        checkpoint: folder of the model.
        prompts: file with name of workload -> token ids.
        tokens: name of workload -> new tokens of stock (SDPA, float32).
    """

    checkpoint: Path
    prompts: Path
    tokens: dict[str, Rows]


def workloads(quick: bool) -> dict[str, Workload]:
    """Those of ``generate.py``; the one with the fewest tokens first, since a process keeps its
    memory and the peak of a later one must be larger to be seen."""
    tiny = {"W3": (4, 8), "W1": (8, 16), "W2": (16, 16)}
    return {
        name: Workload(name, lengths, 32) if quick else replace(WORKLOADS[name], name=name)
        for name, lengths in tiny.items()
    }


def make_material(folder: Path, works: Sequence[Workload], quick: bool) -> Material:
    """Write the checkpoint and the prompts into ``folder``; run the stock model once."""
    generator = torch.Generator().manual_seed(0)
    model = _model(quick)
    checkpoint = folder / "checkpoint"
    model.save_pretrained(checkpoint)
    vocabulary = model.config.vocab_size
    prompts: dict[str, Rows] = {
        work.name: [
            torch.randint(vocabulary, (length,), generator=generator).tolist()
            for length in work.lengths
        ]
        for work in works
    }
    file = folder / "prompts.json"
    file.write_text(json.dumps(prompts))
    tokens = {work.name: _continue(model, prompts[work.name], work.new_tokens) for work in works}
    return Material(checkpoint, file, tokens)


def _model(quick: bool) -> GPT2LMHeadModel:
    """GPT-2 124M, or a tiny one.

    With transformers' own initial weights the model repeats its last token for ever, and any bug
    would go unseen: weights four times as large, below embeddings of the usual size, end that.
    """
    tiny = {"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 128}
    config = GPT2Config(
        **(tiny if quick else {}), initializer_range=0.08, bos_token_id=None, eos_token_id=None
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(0.25)
        model.transformer.wpe.weight.mul_(0.25)
    model.generation_config.pad_token_id = 0
    return model


@torch.inference_mode()
def _continue(model: GPT2LMHeadModel, prompts: Rows, new_tokens: int) -> Rows:
    ids, mask = (torch.tensor(rows) for rows in left_padded(prompts))
    batch = {"input_ids": ids, "attention_mask": mask}
    rows: Rows = generate(model, batch, new_tokens).tolist()
    return rows
