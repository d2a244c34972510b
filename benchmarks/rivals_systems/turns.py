"""Workers take turns: they all are loaded, one runs while the others wait, round after round."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from masked_attn.cli.bench.turns import Generations, Turn, take_turns
from masked_attn.cli.bench.workload import Workload

from .worker_process import WorkerFailed, WorkerProcess

__all__ = ["Figures", "groups", "memory_for_workers", "play_all"]

PAUSE = 0.3  # seconds, in which the threads of the last one stop spinning
GIGABYTES = {"float32": 2.6, "bfloat16": 1.8}  # of the largest worker, GPT-2 124M, W2


@dataclass
class Figures(Generations):
    """What one system did with one workload; or, with ``error``, why not.

    Args:
        first: seconds of the first call, of two tokens, with whatever it prepares or compiles.
        peak: MiB, the largest resident memory of the process since the first call.
    """

    work: Workload
    first: float = 0.0
    peak: float = 0.0


def play_all(workers: dict[str, WorkerProcess], work: Workload, repeats: int) -> dict[str, Figures]:
    """Run one workload on all workers, ``repeats`` turns after a short first call.

    A worker that fails is stopped and taken out of ``workers``; its figures say why.
    """
    found = {name: Figures(work) for name in workers}

    def ask(name: str, new_tokens: int, forget_peak: bool = False) -> dict[str, Any]:
        request = {"workload": work.name, "longest": work.longest, "new_tokens": new_tokens}
        return workers[name].ask({**request, "forget_peak": forget_peak})

    def first(name: str) -> float:
        time.sleep(PAUSE)
        seconds: float = ask(name, 2)["seconds"]
        return seconds

    def play(name: str) -> Turn:
        time.sleep(PAUSE)
        prompt = ask(name, 1, forget_peak=not found[name].prompt)
        total = ask(name, work.new_tokens)
        found[name].peak = total["peak"]
        return prompt["seconds"], total["seconds"], total["tokens"]

    for name, figures in found.items():
        figures.first = figures.attempt(partial(first, name), (WorkerFailed,), str) or 0.0
    take_turns(found, play, repeats, failures=(WorkerFailed,), why=str)
    for name, figures in found.items():
        if figures.error:
            del workers[name]
    return found


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
