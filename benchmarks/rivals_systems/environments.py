"""A virtual environment for each rival, made once and kept while its packages stay the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from .catalogue import ENVIRONMENTS, Environment
from .worker_process import WorkerFailed

__all__ = ["make"]


def make(name: str, folder: Path) -> Path:
    """The Python of the environment ``name`` in ``folder``; makes it if it is not there.

    Raises:
        WorkerFailed: pip could not install it; what it said lies beside it.
    """
    environment = ENVIRONMENTS[name]
    place = folder / name
    python, ready = place / "bin" / "python", place / "ready"
    packages = _packages(environment)
    if ready.exists() and ready.read_text().split() == packages:
        return python
    print(f"making the environment {name}: {' '.join(packages)}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("w") as log:
        _run([sys.executable, "-m", "venv", str(place)], log.name)
        pip = [str(python), "-m", "pip"]
        _run([*pip, "install", "--quiet", *packages], log.name)
        if environment.remove:
            _run([*pip, "uninstall", "--quiet", "--yes", *environment.remove], log.name)
    ready.write_text("\n".join(packages) + "\n")
    return python


def _packages(environment: Environment) -> list[str]:
    """torch stands first and pinned: else pip may replace it by another build."""
    return [f"torch=={torch.__version__.partition('+')[0]}", *environment.packages]


def _run(command: list[str], log: str) -> None:
    with Path(log).open("a") as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        said = [line for line in Path(log).read_text().splitlines() if line.startswith("ERROR")]
        raise WorkerFailed(f"not installed: {said[-1] if said else 'see ' + log}")
