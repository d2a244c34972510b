"""Peak memory of one system, in a process of its own that runs nothing else.

On the CPU it is resident memory, as Linux counts it (``VmHWM`` of ``/proc/self/status``): the
weights, the libraries and all that the run had to hold at one time. The count starts anew after the
model is loaded and stock code has run a short prompt, so that neither the loading nor the first use
of a library is taken for a need of the run. glibc gives freed tensors back at once in this process:
by default it keeps some, hundreds of megabytes more or less from one run to the next. On a GPU it
is what torch has allocated there (``torch.cuda.max_memory_allocated``).

``python -m masked_attn.cli.bench.memory SETTING SYSTEM`` prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from masked_attn.cli.bench.running import generate
from masked_attn.cli.bench.setting import Setting
from masked_attn.cli.bench.systems import SYSTEMS, System, make_model
from masked_attn.cli.errors import reason

__all__ = ["Memory", "measure", "measure_alone"]


# Not for those who set it themselves. Any value stops glibc from raising it while a program runs.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class Memory:
    """Bytes of one run.

    Args:
        before: with the stock model loaded.
        peak: the most at one time since then.
    """

    before: int
    peak: int


def measure_alone(setting: Setting, system: System) -> Memory | str:
    """Measure in a new process; a text says why there are no figures."""
    command = [sys.executable, "-m", __name__, setting.to_json(), system.name]
    surroundings = {**GIVE_BACK, **os.environ}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return f"stopped by signal {-done.returncode}"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode or not lines:
        return lines[-1] if lines else f"exit status {done.returncode}"
    return Memory(**json.loads(lines[-1]))


def measure(setting: Setting, system: System) -> Memory:
    """Measure in this process, which should be new."""
    stock = setting.load()
    batch = setting.batch(stock)
    short = {name: tensor[-1:, -2:] for name, tensor in batch.items()}
    generate(stock, short, 2)
    before = _start(setting.device)
    generate(make_model(system, stock), batch, setting.new_tokens, system.options)
    return Memory(before, _peak(setting.device))


def _start(device: str) -> int:
    """Forget the peak so far; return what is held now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # 5: the peak becomes what is resident now
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    """Bytes of a line of ``/proc/self/status``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def main() -> int:
    """The whole program of the process."""
    try:
        found = measure(Setting.from_json(sys.argv[1]), SYSTEMS[sys.argv[2]])
    except Exception as error:  # the other process reads the last line
        print(reason(error), file=sys.stderr)
        return 1
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
