"""``generate`` on GPT-2 124M: ours, stock, torch.compile, zentorch and other engines.

Each rival runs in an environment of its own, below the folder of ``--environments``, which this
script makes when it is not there (gigabytes, minutes, once). Without that option only what needs no
other environment runs: stock and ours.

Batch 8, greedy, no end token, the same weights and tokens for all. W1: prompts of 64, 128, ..., 512
tokens, 64 new. W2: prompts of 512, 64 new. W3: prompts of 8, 16, ..., 64, 128 new. All workers are
loaded, then take turns. A system that cannot be installed, or fails, has a row that says why.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from sys import executable

from common.options import make_parser, start
from common.report import Report, Row, Table
from masked_attn.cli.bench.workload import Workload
from rivals_systems import rows
from rivals_systems.catalogue import OURS, SYSTEMS, System
from rivals_systems.environments import make
from rivals_systems.material import Material, make_material, workloads
from rivals_systems.turns import groups, memory_for_workers, play_all
from rivals_systems.worker_process import WorkerFailed, WorkerProcess, convert
from rivals_systems.workers.serve import Task

DTYPES = ("float32", "bfloat16")


@dataclass
class Starter:
    """Starts workers; environments and conversions are made once, and fail once.

    Args:
        environments: their folder; None when nothing needs one.
        scratch: a folder for conversions and logs.
    """

    environments: Path | None
    scratch: Path
    material: Material
    threads: int
    failures: dict[str, str] = field(default_factory=dict)

    def start(self, name: str, dtype: str) -> WorkerProcess:
        """A loaded worker.

        Raises:
            WorkerFailed: it can't be had.
        """
        system = SYSTEMS[name]
        python = self._python(system)
        form = f"{system.converted}{'' if system.one_form else '-' + dtype}"
        task = Task(
            str(self.material.checkpoint),
            str(self.scratch / form),
            str(self.material.prompts),
            dtype,
            self.threads,
            dict(system.settings),
        )
        log = self.scratch / f"{name}-{dtype}.log"
        if system.converted is not None:
            self._convert(form, system, python, task, log)
        return WorkerProcess.start(system, python, task, log)

    def _python(self, system: System) -> Path:
        if system.environment is None:
            return Path(executable)
        assert self.environments is not None
        self._raise_again(system.environment)
        try:
            return make(system.environment, self.environments)
        except WorkerFailed as failure:
            self.failures[system.environment] = str(failure)
            raise

    def _convert(self, form: str, system: System, python: Path, task: Task, log: Path) -> None:
        self._raise_again(f"form {form}")
        if Path(task.converted).exists():
            return
        try:
            convert(system, python, task, log)
        except WorkerFailed as failure:
            self.failures[f"form {form}"] = str(failure)
            raise

    def _raise_again(self, key: str) -> None:
        if key in self.failures:
            raise WorkerFailed(self.failures[key])


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, repeats=3)
    parser.add_argument(
        "--environments", metavar="DIR", help="the rivals' environments are, or are made, here"
    )
    parser.add_argument("--workloads", nargs="+", choices=sorted(workloads(True)), help="some only")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES, help="some only")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="some only")
    parser.add_argument(
        "--at-once", type=int, metavar="N", help="workers in memory (default: as many as fit)"
    )
    options = parser.parse_args()
    options.systems = _systems(parser, options)
    return options


def _systems(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    away = [name for name, system in SYSTEMS.items() if system.environment is not None]
    if options.environments is None:
        unreachable = [name for name in options.systems or () if name in away]
        if unreachable:
            parser.error(f"{', '.join(unreachable)}: needs --environments DIR")
        print(f"without --environments these are left out: {', '.join(away)}")
        here = [name for name in SYSTEMS if name not in away]
        return list(dict.fromkeys(options.systems or here))
    return list(dict.fromkeys(options.systems or SYSTEMS))


def measure(
    dtype: str,
    group: int,
    names: list[str],
    works: list[Workload],
    starter: Starter,
    repeats: int,
    figures: Table,
) -> list[str]:
    """Load the workers ``names``, run all workloads, and stop them; a line about each worker."""
    workers: dict[str, WorkerProcess] = {}
    try:
        for name in names:
            try:
                workers[name] = starter.start(name, dtype)
            except WorkerFailed as failure:
                figures.add(rows.failed(dtype, group, "all", name, str(failure)))
        described = {name: worker.described for name, worker in workers.items()}
        for work in works:
            found = play_all(workers, work, repeats)
            stock = starter.material.tokens[work.name]
            for row in rows.measured(dtype, group, work.name, found, stock):
                figures.add(row)
        return [rows.description(dtype, *each) for each in described.items()]
    finally:
        for worker in workers.values():
            worker.stop()


def is_ours(row: Row) -> bool:
    return row["system"] in [each.title for name, each in SYSTEMS.items() if name.startswith(OURS)]


def run(options: argparse.Namespace, report: Report, scratch: Path) -> None:
    """Fill the tables."""
    works = [
        work
        for name, work in workloads(options.quick).items()
        if name in (options.workloads or (name,))
    ]
    environments = options.environments and Path(options.environments).resolve()
    material = make_material(scratch, works, options.quick)
    starter = Starter(environments, scratch, material, options.threads)
    figures = report.table("generate, GPT-2", rows.COLUMNS, rows.CHART)
    descriptions: list[str] = []
    for dtype in options.dtypes:
        at_once = len(SYSTEMS) if options.quick else memory_for_workers(dtype)
        parts = groups(options.systems, OURS, options.at_once or at_once)
        for group, names in enumerate(parts, start=1):
            descriptions += measure(dtype, group, names, works, starter, options.repeats, figures)
    report.failures += [str(row["note"]) for row in figures.rows if row["note"] and is_ours(row)]
    report.note("\nVersions and settings:\n")
    for line in dict.fromkeys(descriptions):  # ours is in every group
        report.note(line)


def main() -> None:
    options = parse()
    report = start(options)
    if options.environments:
        Path(options.environments).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.environments) as scratch:
        run(options, report, Path(scratch).resolve())
    report.finish()


if __name__ == "__main__":
    main()
