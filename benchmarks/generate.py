"""Hugging Face ``generate`` on GPT-2 124M: stock (SDPA) against ``masked_attn.patch``.

Random weights, float32, greedy, no end token, batch 8. W1: prompts of 64, 128, ..., 512 tokens,
padded on the left, 64 new tokens. W2: prompts of 512, 64 new. W3: prompts of 8, 16, ..., 64,
128 new. Both models share their weights and take turns. Random weights make near-ties, so a few
tokens may differ from the stock model's.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from common.options import make_parser, start
from common.report import Chart, Column, Row
from common.workloads import ragged_lengths
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import masked_attn

BATCH = 8

COLUMNS = (
    Column("workload", "workload", width=10),
    Column("system", "system", width=14),
    Column("prompt_s", "prompt s", digits=3),
    Column("total_s", "total s", digits=3),
    Column("median_total_s", "median", digits=3),
    Column("step_ms", "ms per step"),
    Column("ratio_prompt", "prompt ratio"),
    Column("ratio_best", "total ratio"),
    Column("ratio_step", "step ratio"),
    Column("equal_tokens", "same tokens as stock", width=12),
)


@dataclass(frozen=True)
class Workload:
    """Prompts and the number of new tokens of each row."""

    name: str
    lengths: tuple[int, ...]
    new_tokens: int

    def batch(self, vocabulary: int) -> dict[str, Tensor]:
        mask = masked_attn.masks.padding_mask(torch.tensor(self.lengths)).long()
        return {"input_ids": torch.randint(vocabulary, mask.shape), "attention_mask": mask}


@dataclass(frozen=True)
class Turn:
    """Seconds of one call for one token, of one for all tokens, and the new tokens."""

    prompt: float
    total: float
    tokens: Tensor


def workloads(quick: bool) -> list[Workload]:
    if quick:
        return [Workload("W1 ragged", (4, 8), 4)]
    return [
        Workload("W1 ragged", ragged_lengths(BATCH, 512), 64),
        Workload("W2 equal", (512,) * BATCH, 64),
        Workload("W3 short", ragged_lengths(BATCH, 64), 128),
    ]


def make_models(quick: bool) -> dict[str, GPT2LMHeadModel]:
    """The stock model, and a patched copy with the same weights in memory."""
    tiny = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64}
    config = GPT2Config(**(tiny if quick else {}), bos_token_id=None, eos_token_id=None)
    stock = GPT2LMHeadModel(config).eval()
    stock.generation_config.eos_token_id = None
    stock.generation_config.pad_token_id = 0
    shared = {id(weight): weight for weight in stock.parameters()}
    return {"stock, sdpa": stock, "masked_attn": masked_attn.patch(copy.deepcopy(stock, shared))}


def timed(model: Any, batch: dict[str, Tensor], new_tokens: int) -> tuple[float, Tensor]:
    """Seconds of one greedy ``generate``, and its new tokens ``[batch, new_tokens]``."""
    start_time = time.perf_counter()
    tokens = model.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
    elapsed = time.perf_counter() - start_time
    return elapsed, tokens[:, batch["input_ids"].shape[1] :]


def take_turns(models: dict[str, Any], work: Workload, repeats: int) -> dict[str, list[Turn]]:
    """A short call warms up each model; then prompt and total are timed in turn."""
    batch = work.batch(models["stock, sdpa"].config.vocab_size)
    for model in models.values():
        timed(model, batch, 2)
    turns: dict[str, list[Turn]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            prompt, _ = timed(model, batch, 1)
            turns[name].append(Turn(prompt, *timed(model, batch, work.new_tokens)))
    return turns


def rows(work: Workload, turns: dict[str, list[Turn]]) -> list[Row]:
    """One row for each model; ratios are stock / this one, of the fastest turns."""
    found: list[Row] = []
    stock: Row = {}
    reference = turns["stock, sdpa"][0].tokens
    for name, mine in turns.items():
        prompt, total = min(turn.prompt for turn in mine), min(turn.total for turn in mine)
        steps = [(turn.total - turn.prompt) / (work.new_tokens - 1) for turn in mine]
        row: Row = {"workload": work.name, "system": name, "prompt_s": prompt, "total_s": total}
        row["median_total_s"] = statistics.median(turn.total for turn in mine)
        row["step_ms"] = 1e3 * min(steps)
        stock = stock or row
        for ratio, key in (("prompt", "prompt_s"), ("best", "total_s"), ("step", "step_ms")):
            row[f"ratio_{ratio}"] = float(stock[key]) / float(row[key])
        same = int((mine[0].tokens == reference).sum())
        row["equal_tokens"] = f"{same} of {reference.numel()}"
        found.append(row)
    return found


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__, repeats=2).parse_args()
    report = start(options)
    models = make_models(options.quick)
    table = report.table("generate, GPT-2, float32", COLUMNS, Chart(("workload", "system")))
    for work in workloads(options.quick):
        for row in rows(work, take_turns(models, work, options.repeats)):
            table.add(row)
    report.finish()


if __name__ == "__main__":
    main()
