"""Where the time of ``generate`` goes: the ten operators that take most of a prompt and of a step.

GPT-2 124M with random weights, stock and patched with every level, on the workloads of
``generate.py``. Each share is the operator's own time on the main thread, by torch's profiler,
which makes Python look slower than it is. A limit is what the machine allows at the rates that were
measured in the same run: for a prompt the operations of the linear layers and of visible attention
at the rate of matrix products of that dtype, for a step the bytes of weights and visible cache at
the rate of reading.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from common.clock import best_seconds
from common.gpt2 import make_pair, workloads
from common.machine import products
from common.options import make_parser, start
from common.report import Chart, Column, Report, Row
from common.workloads import DTYPES
from masked_attn.cli.bench.running import generate
from masked_attn.cli.bench.workload import Workload

Run = Callable[[int], Tensor]  # a `generate` of so many new tokens
Operators = dict[str, tuple[int, float]]  # calls and own milliseconds

TOP = 10
STEPS = 8

SHARES = (
    Column("operator", "operator", width=40),
    Column("calls", "calls", width=6),
    Column("ms", "ms", width=9),
    Column("share", "%", width=5, digits=1),
)
LIMITS = (
    Column("system", "system", width=14),
    Column("phase", "phase", width=8),
    Column("ms", "ms", width=9, digits=1),
    Column("limit_ms", "limit ms", width=9, digits=1),
    Column("of_limit", "limit / time %", digits=0),
)


def linear_sizes(model: GPT2LMHeadModel) -> int:
    """Weights of all linear layers inside the blocks."""
    layers = (m for m in model.transformer.modules() if isinstance(m, (Conv1D, nn.Linear)))
    return sum(layer.weight.numel() for layer in layers)


def prompt_operations(model: GPT2LMHeadModel, lengths: tuple[int, ...]) -> float:
    """Operations of a prompt on real tokens only; the head sees the last token of each row."""
    config = model.config
    products = linear_sizes(model) * sum(lengths) + model.lm_head.weight.numel() * len(lengths)
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    return float(2 * products + 4 * pairs * config.n_embd * config.n_layer)


def step_bytes(model: GPT2LMHeadModel, lengths: tuple[int, ...]) -> float:
    """Bytes of one step in the middle of those that are timed."""
    config, size = model.config, model.lm_head.weight.element_size()
    tokens = sum(lengths) + len(lengths) * STEPS // 2
    cache = 2 * config.n_layer * config.n_embd * tokens
    return float(size * (linear_sizes(model) + model.lm_head.weight.numel() + cache))


def profiled(run: Run, new_tokens: int) -> Operators:
    """Calls and own milliseconds of every operator of one ``generate``."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run(new_tokens)
    return {
        event.key: (event.count, 1e-3 * event.self_cpu_time_total) for event in found.key_averages()
    }


def difference(longer: Operators, shorter: Operators) -> Operators:
    """What ``longer`` did besides, for each of ``STEPS`` steps, without the prompt."""
    steps = {}
    for key, (count, spent) in longer.items():
        less_count, less = shorter.get(key, (0, 0.0))
        if count > less_count:
            steps[key] = (round((count - less_count) / STEPS), max(0.0, spent - less) / STEPS)
    return steps


def add_top(report: Report, title: str, operators: Operators) -> None:
    """A table of the operators that take most, and of all others together."""
    table = report.table(title, SHARES, Chart(("operator",), ("ms",), title="milliseconds"))
    total = sum(spent for _, spent in operators.values())
    ranked = sorted(operators.items(), key=lambda item: -item[1][1])
    rest = ranked[TOP:]
    others = (sum(count for _, (count, _) in rest), sum(spent for _, (_, spent) in rest))
    for name, (count, spent) in [*ranked[:TOP], ("all others", others)]:
        row: Row = {"operator": name, "calls": count, "ms": spent}
        table.add({**row, "share": 100 * spent / total})


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__, repeats=3, dtype=True)
    options = parser.parse_args()
    report = start(options)
    dtype = DTYPES[options.dtype]
    models = make_pair(options.quick, options.device, dtype)
    rate = products(256 if options.quick else 2048, dtype=dtype)
    report.note(f"matrix products in {options.dtype}: {rate:.0f} GFLOP/s")
    for work in workloads(options.quick):
        measure(report, work, models, rate, options.repeats)
    report.finish()


def measure(
    report: Report,
    work: Workload,
    models: dict[str, GPT2LMHeadModel],
    rate: float,
    repeats: int,
) -> None:
    """The tables of one workload; ``rate`` is that of matrix products, in GFLOP/s."""
    limits: list[Row] = []
    for name, model in models.items():
        batch = work.batch(model.config.vocab_size, "cpu")
        run = partial(generate, model, batch)
        run(2)
        prompt = profiled(run, 1)
        steps = difference(profiled(run, 1 + STEPS), prompt)
        add_top(report, f"{work.name}, {name}: the prompt", prompt)
        add_top(report, f"{work.name}, {name}: a step", steps)
        first = best_seconds(partial(run, 1), repeats)
        step = max(0.0, best_seconds(partial(run, 1 + STEPS), repeats) - first) / STEPS
        limit = 1e-9 * prompt_operations(model, work.lengths) / rate
        limits.append(limit_row(name, "prompt", first, limit))
        limit = 1e-9 * step_bytes(model, work.lengths) / report.machine.reading
        limits.append(limit_row(name, "step", step, limit))
    table = report.table(
        f"{work.name}: how far from the limit", LIMITS, Chart(("system", "phase"), ("of_limit",))
    )
    for row in limits:
        table.add(row)


def limit_row(system: str, phase: str, spent: float, limit: float) -> Row:
    row: Row = {"system": system, "phase": phase, "ms": 1e3 * spent, "limit_ms": 1e3 * limit}
    return {**row, "of_limit": 100 * limit / max(spent, 1e-9)}


if __name__ == "__main__":
    main()
