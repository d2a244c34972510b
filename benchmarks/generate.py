"""Hugging Face ``generate`` on GPT-2 124M: stock (SDPA) against ``masked_attn.patch``.

Random weights, greedy, no end token, batch 8. W1: prompts of 64, 128, ..., 512 tokens,
padded on the left, 64 new tokens. W2: prompts of 512, 64 new. W3: prompts of 8, 16, ..., 64,
128 new. Both models share their weights and take turns. Random weights make near-ties, so a few
tokens may differ from the stock model's.

On a GPU also the stock model with a ``StaticCache``, and with that and the steps compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from common.generations import SYSTEMS, rows
from common.gpt2 import STOCK, make_pair, workloads
from common.options import make_parser, start
from common.report import Chart, Report
from common.trial import OURS
from common.workloads import DTYPES
from masked_attn.cli.bench.running import generate, generation
from masked_attn.cli.bench.turns import Generations, Turn, take_turns
from masked_attn.cli.bench.workload import Workload
from masked_attn.cli.errors import reason


@dataclass(frozen=True)
class System:
    """A model, and what its ``generate`` is told besides."""

    model: Any
    keywords: Mapping[str, Any] = field(default_factory=dict)


def make_systems(quick: bool, device: str, dtype: torch.dtype) -> dict[str, System]:
    """The stock model, and a patched copy with the same weights in memory."""
    stock, patched = make_pair(quick, device, dtype).values()
    if device == "cpu":
        return {STOCK: System(stock), OURS: System(patched)}
    static = {"cache_implementation": "static"}
    return {
        STOCK: System(stock),
        "stock, StaticCache": System(stock, {**static, "disable_compile": True}),
        "stock, StaticCache, compiled": System(stock, static),  # by transformers, for each step
        OURS: System(patched),
    }


def warm_up(
    systems: dict[str, System], work: Workload, batch: dict[str, Tensor], report: Report
) -> dict[str, System]:
    """Run each system once; return those that ran.

    A short run is enough on the CPU. On a GPU all steps run: some are compiled or recorded then.
    """
    on_gpu = batch["input_ids"].is_cuda
    if on_gpu:
        torch.compiler.reset()
    works = {}
    for name, system in systems.items():
        # A static cache is as long as the longest so far: other workloads must not count.
        vars(system.model).pop("_previous_max_cache_length", None)
        try:
            generate(system.model, batch, work.new_tokens if on_gpu else 2, system.keywords)
            works[name] = system
        except Exception as error:  # a rival may fail with anything
            if name in (STOCK, OURS):
                raise
            report.note(f"{work.name}: {name} is left out: {reason(error)}")
    return works


def measure(
    systems: dict[str, System], work: Workload, batch: dict[str, Tensor], repeats: int
) -> dict[str, Generations]:
    """Time prompt and total of every system in turn; one that fails now stops the script."""
    found = {name: Generations() for name in systems}

    def play(name: str) -> Turn:
        system = systems[name]
        return generation(system.model, batch, work.new_tokens, system.keywords)

    take_turns(found, play, repeats, failures=())
    return found


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__, repeats=2, gpu=True, dtype=True).parse_args()
    report = start(options)
    systems = make_systems(options.quick, options.device, DTYPES[options.dtype])
    vocabulary = systems[STOCK].model.config.vocab_size
    chart = Chart(("workload", "system"))
    table = report.table(f"generate, GPT-2, {options.dtype}", SYSTEMS, chart)
    for work in workloads(options.quick):
        batch = work.batch(vocabulary, options.device)
        works = warm_up(systems, work, batch, report)
        for row in rows(work, measure(works, work, batch, options.repeats), STOCK):
            table.add(row)
    report.finish()


if __name__ == "__main__":
    main()
