"""The driver's half of the conversation with a worker; see ``workers/serve.py`` for the other."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .catalogue import System
from .workers.serve import Task

__all__ = ["WorkerFailed", "WorkerProcess", "convert"]

HERE = Path(__file__).resolve().parent
PATIENCE = 1800.0  # seconds for one answer

# No page faults: glibc keeps what it has once got, instead of returning it at every free.
TUNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(1 << 30),
}


class WorkerFailed(Exception):
    """Why a system does not run, in one line."""


@dataclass
class WorkerProcess:
    """A running worker; it waits, without using a core, while others are asked.

    Args:
        described: versions and settings, as the worker says.
    """

    process: subprocess.Popen[str]
    log: Path
    described: dict[str, str]

    @classmethod
    def start(cls, system: System, python: Path, task: Task, log: Path) -> WorkerProcess:
        """Start a worker and wait until its model is loaded.

        Raises:
            WorkerFailed: it could not be loaded.
        """
        with log.open("a") as errors:
            process = subprocess.Popen(
                _command(system.worker, python, "serve", task),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=HERE,
                env=_environment(system, task),
            )
        worker = cls(process, log, {})
        worker.described = worker._answer()["ready"]
        return worker

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            WorkerFailed: it says that it failed, or it ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer()

    def stop(self) -> None:
        """End the process, at once if it does not listen."""
        try:
            self.process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()

    def _answer(self) -> dict[str, Any]:
        output = self.process.stdout
        assert output is not None
        if not select.select([output], [], [], PATIENCE)[0]:
            self.stop()
            raise WorkerFailed(f"no answer in {PATIENCE:.0f} s")
        line = output.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.stop()
            _show_end(self.log)
            raise WorkerFailed(answer["error"])
        return answer

    def _ended(self) -> WorkerFailed:
        self.stop()
        _show_end(self.log)
        return WorkerFailed(f"ended with {self.process.returncode}: {_last_line(self.log)}")


def convert(system: System, python: Path, task: Task, log: Path) -> None:
    """Let a worker write its own form of the checkpoint, in a process of its own.

    Raises:
        WorkerFailed: it could not.
    """
    with log.open("a") as output:
        done = subprocess.run(
            _command(system.converter or system.worker, python, "convert", task),
            stdout=output,
            stderr=output,
            cwd=HERE,
            env=_environment(system, task),
            check=False,
        )
    if done.returncode != 0:
        _show_end(log)
        raise WorkerFailed(f"no conversion: {_last_line(log)}")


def _command(worker: str, python: Path, action: str, task: Task) -> list[str]:
    return [str(python), "-m", f"workers.{worker}", action, json.dumps(asdict(task))]


def _environment(system: System, task: Task) -> dict[str, str]:
    """The driver's, without what would reach into a rival's own packages."""
    found = {name: value for name, value in os.environ.items() if name not in TUNED_MALLOC}
    paths = found.pop("PYTHONPATH", "")
    if system.environment is None and paths:  # the worker's folder is another one
        found["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    if system.tuned_malloc:
        found.update(TUNED_MALLOC)
    found["OMP_NUM_THREADS"] = str(task.threads)
    found["HF_HUB_OFFLINE"] = "1"
    found["PYTHONNOUSERSITE"] = "1"
    return {**found, **system.variables}


def _show_end(log: Path) -> None:
    """The folder of the log is removed at the end."""
    lines = log.read_text(errors="replace").splitlines()[-15:]
    print("\n".join([f"the end of {log.name}:", *lines]), file=sys.stderr, flush=True)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"
