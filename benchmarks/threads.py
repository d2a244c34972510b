"""Speed-up from more threads: ragged and equal prompts of 512 tokens, and a token step at T=540.

GPT-2 124M shapes, float32. Prompts in milliseconds per layer, the token step for 12 layers. Thread
counts take turns like rivals do. ``--threads`` is the largest count; the default is every core.
"""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from common import prompt, token_step
from common.options import make_parser, sizes, start
from common.report import CASE, Chart, Column, Row, Table
from common.timing import Contender, take_turns
from common.visibility import Visibility
from common.workloads import Sizes, make_layers, ragged_lengths

COLUMNS = (
    CASE,
    Column("system", "system", width=12),
    Column("threads", "threads"),
    Column("best_ms", "best ms"),
    Column("median_ms", "median"),
    Column("speedup_best", "speed-up"),
    Column("speedup_median", "median"),
)


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return sorted({*(2**power for power in range(most.bit_length())), most})


def with_threads(contender: Contender, threads: int) -> Contender:
    """The same with another number of threads."""

    def prepare() -> None:
        torch.set_num_threads(threads)
        if contender.prepare is not None:
            contender.prepare()

    return replace(contender, prepare=prepare)


def prompts(size: Sizes, length: int) -> dict[str, dict[str, Contender]]:
    layers = make_layers(size, length)
    found = {}
    for name, lengths in (("ragged", ragged_lengths(size.batch, length)), ("equal", None)):
        seen = Visibility(size.batch, length, length, True, lengths)
        found[f"{name} prompt, S={length}"] = {
            "masked_attn": prompt.over_layers(prompt.ours(seen), layers),
            "SDPA": prompt.over_layers(prompt.sdpa(seen), layers),
        }
    return found


def token_steps(size: Sizes, quick: bool) -> dict[str, dict[str, Contender]]:
    return {
        f"step, {name}": {"masked_attn": token_step.ours(step), "cat + SDPA": token_step.cat(step)}
        for name, step in list(token_step.steps(size, quick).items())[:2]
    }


def measure(
    case: str, systems: dict[str, Contender], counts: list[int], repeats: int, table: Table
) -> None:
    contenders = {
        f"{system} {count}": with_threads(contender, count)
        for system, contender in systems.items()
        for count in counts
    }
    times = take_turns(contenders, repeats)
    for system in systems:
        one = times[f"{system} 1"]
        for count in counts:
            mine = times[f"{system} {count}"]
            row: Row = {"case": case, "system": system, "threads": count}
            row |= {"best_ms": mine.best, "median_ms": mine.median}
            row["speedup_best"] = one.best / mine.best
            row["speedup_median"] = one.median / mine.median
            table.add(row)


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(threads=os.cpu_count() or 1)
    options = parser.parse_args()
    report = start(options)
    size = sizes(options)
    chart = Chart(("case", "system", "threads"), ("speedup_best",), title="speed-up from 1 thread")
    table = report.table("threads, float32", COLUMNS, chart)
    counts = thread_counts(options.threads)
    for case, systems in prompts(size, 32 if options.quick else 512).items():
        measure(case, systems, counts, options.repeats, table)
    for case, systems in token_steps(size, options.quick).items():
        measure(case, systems, counts, options.repeats, table)
    report.finish()


if __name__ == "__main__":
    main()
