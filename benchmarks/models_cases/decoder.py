"""``generate`` of a decoder: stock, stock with our attention, patched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from common.agreement import agreement
from common.generations import SYSTEMS, rows
from common.gpt2 import STOCK
from common.report import Chart, Report
from masked_attn.cli.bench.running import generation
from masked_attn.cli.bench.turns import Generations, Turn, take_turns
from masked_attn.cli.bench.workload import WORKLOADS, Workload
from masked_attn.cli.generate.ties import Judge, first_difference

from .shapes import DECODERS, systems

__all__ = ["measure_decoder"]

Batch = dict[str, Tensor]


def measure_decoder(report: Report, name: str) -> None:
    """A table of the workloads that ``--workload`` asks for."""
    options = report.options
    models = systems(DECODERS[name].build(options.quick))
    vocabulary = models[STOCK].config.vocab_size
    table = report.table(f"generate, {name}", SYSTEMS, Chart(("workload", "system")))
    for work in workloads(options.workload, options.quick):
        batch = work.batch(vocabulary, "cpu")
        require_equal_scores(models, batch)
        found = generations(models, work, batch, options.repeats)
        for row in rows(work, found, STOCK):
            table.add(row)
        report.failures += wrong_tokens(models[STOCK], batch, found, f"{name}, {work.name}")


def workloads(names: list[str], quick: bool) -> list[Workload]:
    """Those of these names; all are tiny in a quick run."""
    chosen = [WORKLOADS[name] for name in names]
    return [Workload(work.name, (4, 8), 32) for work in chosen] if quick else chosen


def generations(
    models: Mapping[str, Any], work: Workload, batch: Batch, repeats: int
) -> dict[str, Generations]:
    """All models in turn; one that fails stops the script."""
    found = {name: Generations() for name in models}

    def play(name: str) -> Turn:
        return generation(models[name], batch, work.new_tokens)

    take_turns(found, play, repeats, failures=())
    return found


def require_equal_scores(models: Mapping[str, Any], batch: Batch) -> None:
    """Warm all models up, and compare the scores of a prompt and of the step after it.

    Raises:
        AssertionError: they are not those of the first model.
    """
    found = {name: _two_scores(model, batch) for name, model in models.items()}
    check = agreement()
    check({name: prompt for name, (prompt, _) in found.items()})
    # Behind different tokens there is nothing to compare.
    tokens = torch.stack([prompt.argmax(-1) for prompt, _ in found.values()])
    same = (tokens == tokens[0]).all(0)
    check({name: step[same] for name, (_, step) in found.items()})


def _two_scores(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """``[batch, vocabulary]`` of each of the first two new tokens."""
    made = model.generate(
        **batch,
        max_new_tokens=2,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    prompt, step = made.scores
    return prompt, step


def wrong_tokens(
    stock: Any, batch: Batch, found: Mapping[str, Generations], where: str
) -> list[str]:
    """A line for each row whose tokens leave the stock model's at what is no near-tie."""
    judge = None
    wrong = []
    prompts = [ids[real.bool()].tolist() for ids, real in zip(*batch.values(), strict=True)]
    truth = found[STOCK].tokens.tolist()
    for name, mine in found.items():
        for row, tokens in enumerate(mine.tokens.tolist()):
            difference = first_difference(truth[row], tokens)
            if difference is None:
                continue
            step, first, second = difference
            judge = judge or Judge(stock, {"do_sample": False})
            verdict = judge.compare([*prompts[row], *truth[row][:step]], first, second)
            if not verdict.is_tie:
                gap = f"{verdict.gap:.1e} below the best, rounding is {verdict.error:.1e}"
                wrong.append(f"{where}, {name}, row {row}: token {step} is {gap}")
    return wrong
