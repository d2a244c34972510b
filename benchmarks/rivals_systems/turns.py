"""Workers take turns: they all are loaded, one runs while the others wait, round after round."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .material import Workload
from .worker_process import WorkerFailed, WorkerProcess
from .workers.serve import Rows

__all__ = ["Figures", "groups", "memory_for_workers", "take_turns"]

PAUSE = 0.3  # seconds, in which the threads of the last one stop spinning
GIGABYTES = {"float32": 2.6, "bfloat16": 1.8}  # of the largest worker, GPT-2 124M, W2


@dataclass
class Figures:
    """What one system did with one workload; or, with ``failure``, why not.

    Args:
        first: seconds of the first call, of two tokens, with whatever it prepares or compiles.
        prompts: seconds of a call for one new token, one sample for each round.
        totals: seconds of a call for all new tokens.
        tokens: the new tokens.
        peak: MiB, the largest resident memory of the process since the first call.
    """

    work: Workload
    first: float = 0.0
    prompts: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    tokens: Rows = field(default_factory=list)
    peak: float = 0.0
    failure: str = ""

    @property
    def step_ms(self) -> float:
        """Milliseconds per token after the first one, in the fastest round for that."""
        pairs = zip(self.prompts, self.totals, strict=True)
        return 1e3 * min(total - prompt for prompt, total in pairs) / (self.work.new_tokens - 1)

    @property
    def median_total(self) -> float:
        return statistics.median(self.totals)


def take_turns(
    workers: dict[str, WorkerProcess], work: Workload, repeats: int
) -> dict[str, Figures]:
    """Run one workload on all workers, ``repeats`` rounds after a short first call.

    A worker that fails is stopped and taken out of ``workers``; its figures say why.
    """
    found = {name: Figures(work) for name in workers}
    for turn in range(-1, repeats):
        for name in list(workers):
            time.sleep(PAUSE)
            try:
                _turn(workers[name], found[name], first=turn < 0, forget_peak=turn == 0)
            except WorkerFailed as failure:
                found[name].failure = str(failure)
                del workers[name]
    return found


def _turn(worker: WorkerProcess, figures: Figures, first: bool, forget_peak: bool) -> None:
    work = figures.work

    def run(new_tokens: int, forget_peak: bool = False) -> dict[str, Any]:
        return worker.ask(
            {
                "workload": work.name,
                "longest": work.longest,
                "new_tokens": new_tokens,
                "forget_peak": forget_peak,
            }
        )

    if first:
        figures.first = run(2)["seconds"]
        return
    figures.prompts.append(run(1, forget_peak)["seconds"])
    total = run(work.new_tokens)
    figures.totals.append(total["seconds"])
    figures.tokens, figures.peak = total["tokens"], total["peak"]


def groups(names: list[str], anchor: str, at_once: int) -> list[list[str]]:
    """Cut ``names`` into groups of about the same size, each with ``anchor`` if that is one.

    Args:
        at_once: the most names in one group, at least two.
    """
    fixed = [anchor] if anchor in names else []
    others = [name for name in names if name != anchor]
    size = max(1, at_once - len(fixed))
    count = max(1, -(-len(others) // size))
    return [fixed + others[start::count] for start in range(count)]


def memory_for_workers(dtype: str) -> int:
    """How many workers of GPT-2 124M fit into the memory that is free now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return max(2, int(0.9 * int(line.split()[1]) / 2**20 / GIGABYTES[dtype]))
    raise RuntimeError("/proc/meminfo has no MemAvailable")
