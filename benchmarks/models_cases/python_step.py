"""Python time of a decode step: models of width 32, in which kernels take nearly nothing.

Each system is a process of its own with one thread, so that an older checkout can be one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.agreement import agreement
from common.gpt2 import STOCK
from common.report import CASE, RIVAL, Column, Report, Row, comparison
from common.timing import Contender, Times, take_turns
from common.trial import OURS
from rivals_systems.worker_process import WorkerProcess

from .step_worker import CLASSES

__all__ = ["OLDER", "measure_python_step", "package_folder"]

STEPS = 200
OLDER = "masked_attn, --against"
WORKER = Path(__file__).with_name("step_worker.py")
WAYS = {"forward": "prepare", "generate": None}  # what is timed, and what is done before it
TITLES = {
    "ours_best": "ours us",
    "ours_median": "median",
    "rival_best": "rival us",
    "rival_median": "median",
}
COLUMNS = (
    CASE,
    RIVAL,
    *(Column(f"{key}_us", title, width=9, digits=0) for key, title in TITLES.items()),
    Column("ratio_best", "ratio"),
    Column("ratio_median", "median"),
)


def measure_python_step(report: Report, against: Path | None) -> None:
    """A table with GPT-2 and Llama, their forward alone and in ``generate``.

    Args:
        report: what the script has found.
        against: folder of another version of the package ``masked_attn``.
    """
    systems: dict[str, Path | None] = {OURS: None, STOCK: None}
    if against is not None:
        systems[OLDER] = against
    steps = 10 if report.options.quick else STEPS
    table = report.table(f"a step of width 32, microseconds, {steps} steps a turn", COLUMNS)
    with processes(systems, steps) as workers:
        missing = {name: worker.ask({})["answer"] for name, worker in workers.items()}
        for family in CLASSES:
            for name in workers:
                if family in missing[name]:
                    report.note(f"{name} is left out for {family}: {missing[name][family]}")
            able = {name: each for name, each in workers.items() if family not in missing[name]}
            for way in WAYS:
                times = take_turns(
                    contenders(able, family, way, steps), report.options.repeats, agreement()
                )
                for row in rows(f"{family}, {way}", times):
                    table.add(row)


def package_folder(text: str) -> Path:
    """The folder from which ``masked_attn`` of a checkout is imported.

    Raises:
        ValueError: there is none, or it has no libraries.
    """
    for folder in (Path(text).resolve(), Path(text).resolve() / "python"):
        if list(folder.glob("masked_attn/_C*.so")):
            return folder
    raise ValueError(f"{text}: no masked_attn with its libraries (_C*.so)")


def contenders(
    workers: Mapping[str, WorkerProcess], family: str, way: str, steps: int
) -> dict[str, Contender]:
    before = WAYS[way]
    return {
        name: Contender(
            partial(_ask, worker, family, way),
            None if before is None else partial(_ask, worker, family, before),
            calls=steps,
        )
        for name, worker in workers.items()
    }


def rows(case: str, times: Mapping[str, Times]) -> Iterator[Row]:
    for rival, its in times.items():
        if rival == OURS:
            continue
        cells = comparison(times[OURS], its)
        ratios = {key: cell for key, cell in cells.items() if key.startswith("ratio")}
        microseconds = {f"{key}_us": 1e3 * float(cells[f"{key}_ms"]) for key in TITLES}
        yield {"case": case, "rival": rival, **microseconds, **ratios}


@contextmanager
def processes(systems: Mapping[str, Path | None], steps: int) -> Iterator[dict[str, WorkerProcess]]:
    """A worker for each system, with ``masked_attn`` from its folder, or this process's own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = {}
        for number, (name, package) in enumerate(systems.items()):
            log = Path(folder) / f"worker-{number}.log"
            workers[name] = WorkerProcess(_start(name, package, steps, log), log, {})
            stack.callback(workers[name].stop)
        yield workers


def _start(name: str, package: Path | None, steps: int, log: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    with log.open("a") as errors:
        return subprocess.Popen(
            [sys.executable, str(WORKER), "stock" if name == STOCK else "ours", str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )


def _ask(worker: WorkerProcess, family: str, do: str) -> Tensor:
    answer: list[Any] = worker.ask({"family": family, "do": do})["answer"]
    return torch.tensor(answer, dtype=torch.float32)
