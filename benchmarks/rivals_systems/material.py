"""What all systems get: one GPT-2 of fixed random weights, the prompts, and stock's tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from common.workloads import ragged_lengths

from .workers.serve import Rows, left_padded

__all__ = ["Material", "Workload", "make_material", "workloads"]

BATCH = 8


@dataclass(frozen=True)
class Workload:
    """Lengths of the prompts, and the number of new tokens of each row."""

    name: str
    lengths: tuple[int, ...]
    new_tokens: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row at its end."""
        return max(self.lengths) + self.new_tokens


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
    found = [
        Workload("W3", (4, 8) if quick else ragged_lengths(BATCH, 64), 32 if quick else 128),
        Workload("W1", (8, 16) if quick else ragged_lengths(BATCH, 512), 32 if quick else 64),
        Workload("W2", (16, 16) if quick else (512,) * BATCH, 32 if quick else 64),
    ]
    return {work.name: work for work in found}


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
    tokens: Tensor = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False
    )
    rows: Rows = tokens[:, ids.shape[1] :].tolist()
    return rows
