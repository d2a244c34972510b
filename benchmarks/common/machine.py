"""What the machine can do, measured in the same run: matrix products and reading of memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

import masked_attn

from .clock import clock_of

__all__ = ["Machine", "measure", "products", "reading"]


@dataclass(frozen=True)
class Machine:
    """The machine and the versions of one run.

    Args:
        products: GFLOP/s of a float32 matrix product of torch.
        reading: GB/s (1e9 bytes) of reading memory.
        threads: threads of torch for both.
    """

    cpu: str
    cores: int
    threads: int
    instruction_set: str
    torch_instruction_set: str
    masked_attn: str
    torch: str
    transformers: str
    python: str
    products: float
    reading: float

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.threads} threads; "
            f"masked_attn {self.masked_attn} ({self.instruction_set}), "
            f"torch {self.torch} ({self.torch_instruction_set}), "
            f"transformers {self.transformers}, Python {self.python}\n"
            f"measured: {self.products:.0f} GFLOP/s of float32 matrix products, "
            f"{self.reading:.1f} GB/s of reading"
        )


def measure(quick: bool) -> Machine:
    """Measure with the threads that torch has now; ``quick`` uses sizes too small to be right."""
    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instruction_set=masked_attn._C.selected_instruction_set(),
        torch_instruction_set=torch.backends.cpu.get_cpu_capability(),
        masked_attn=masked_attn.__version__,
        torch=torch.__version__,
        transformers=_version("transformers"),
        python=platform.python_version(),
        products=products(256 if quick else 2048),
        reading=reading((8 if quick else 512) << 20),
    )


def products(size: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of ``torch.mm`` of matrices ``[size, size]`` into memory that is there."""
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    out = torch.empty_like(left)
    return 2e-9 * size**3 / _best_seconds(lambda: torch.mm(left, right, out=out), device)


def reading(size: int, device: str = "cpu") -> float:
    """GB/s of reading ``size`` bytes, more than any cache holds, with all threads.

    Three reductions read the whole buffer once: the sum of it as float32, the sum of the same bytes
    as int64, and the largest float32. Each is limited by memory on the machines we know; the
    fastest turn of the fastest one counts.
    """
    floats = torch.ones(size // 4, device=device)
    integers = floats.view(torch.int64)
    reductions: tuple[Callable[[], Tensor], ...] = (floats.sum, integers.sum, floats.amax)
    return 1e-9 * size / min(_best_seconds(reduction, device) for reduction in reductions)


def _best_seconds(call: Callable[[], Tensor], device: str, turns: int = 5) -> float:
    """Seconds of the fastest of ``turns`` calls, after one that warms up."""
    clock = clock_of(device)
    clock(call)
    return min(clock(call)[0] for _ in range(turns))


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
