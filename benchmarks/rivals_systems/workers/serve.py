"""The worker's half of the conversation: one JSON object a line, requests in, answers out.

``python -m workers.NAME serve TASK`` loads a system once, says ``ready`` and then answers requests
until its input ends. ``... convert TASK`` writes the system's own form of the checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Protocol

__all__ = ["Rows", "System", "Task", "left_padded", "main", "versions"]

Rows = list[list[int]]


@dataclass(frozen=True)
class Task:
    """What the driver wants of this process.

    Args:
        checkpoint: folder with a GPT-2 as Hugging Face saves it, float32.
        converted: where ``convert`` writes, and ``serve`` finds, the system's own form of it.
        prompts: file with name of workload -> token ids of each row.
        dtype: ``"float32"`` or ``"bfloat16"``, of weights, arithmetic and cache.
        threads: of the system's operators.
        settings: the rest, different for each system.
    """

    checkpoint: str
    converted: str
    prompts: str
    dtype: str
    threads: int
    settings: dict[str, Any]


class System(Protocol):
    """A loaded model that continues prompts greedily and never stops early."""

    def describe(self) -> dict[str, str]:
        """Versions and settings that are worth printing."""
        ...

    def prepare(self, prompts: Rows, longest: int) -> Any:
        """What ``generate`` gets, made outside the timing; ``longest`` counts new tokens too."""
        ...

    def generate(self, batch: Any, new_tokens: int) -> Rows:
        """The new tokens of each row."""
        ...


def left_padded(prompts: Rows) -> tuple[Rows, Rows]:
    """Token ids and 0/1 mask, ``[batch, longest prompt]``, pads (id 0) on the left."""
    width = max(map(len, prompts))
    ids = [[0] * (width - len(row)) + row for row in prompts]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in prompts]
    return ids, mask


def versions(*packages: str) -> dict[str, str]:
    """Package -> version."""
    return {package: metadata.version(package) for package in packages}


def main(load: Callable[[Task], System], convert: Callable[[Task], None] | None = None) -> None:
    """Run this process as its command line says."""
    action, task = sys.argv[1], Task(**json.loads(sys.argv[2]))
    if action == "convert":
        assert convert is not None
        convert(task)
        return
    with _private_output() as output:
        _serve(load, task, output)


def _private_output() -> IO[str]:
    """The standard output; whatever a library prints goes to the log (standard error) instead."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _serve(load: Callable[[Task], System], task: Task, output: IO[str]) -> None:
    def answer(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=output, flush=True)

    prompts: dict[str, Rows] = json.loads(Path(task.prompts).read_text())
    try:
        system = load(task)
        answer({"ready": system.describe()})
    except Exception as error:  # a rival may fail with anything
        answer({"error": _reason(error)})
        raise
    batches: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(_run(system, prompts, batches, request))
        except Exception as error:
            answer({"error": _reason(error)})
            raise


def _run(
    system: System, prompts: dict[str, Rows], batches: dict[str, Any], request: dict[str, Any]
) -> dict[str, Any]:
    """Time one ``generate``; tell its seconds, its tokens and the peak of memory since the last
    request that said ``forget_peak``."""
    name, longest = request["workload"], request["longest"]
    if name not in batches:
        batches.clear()
        batches[name] = system.prepare(prompts[name], longest)
    if request["forget_peak"]:
        _forget_peak()
    start = time.perf_counter()
    tokens = system.generate(batches[name], request["new_tokens"])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "tokens": tokens, "peak": _peak()}


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now


def _peak() -> float:
    """The largest resident memory, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"
