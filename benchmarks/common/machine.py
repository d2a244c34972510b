"""What the machine can do, measured in the same run: matrix products and reading of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from masked_attn.cli.info import machine

from .clock import best_seconds, clock_of

__all__ = ["Machine", "measure", "products", "reading"]


@dataclass(frozen=True)
class Machine(machine.Machine):
    """The machine and the versions of one run, and its rates.

    Args:
        products: GFLOP/s of a float32 matrix product of torch.
        reading: GB/s (1e9 bytes) of reading memory.
    """

    products: float
    reading: float

    def __str__(self) -> str:
        return (
            f"{super().__str__()}\nmeasured: {self.products:.0f} GFLOP/s of float32 matrix "
            f"products, {self.reading:.1f} GB/s of reading"
        )


def measure(quick: bool) -> Machine:
    """Measure with the threads that torch has now; ``quick`` uses sizes too small to be right."""
    return Machine(
        **asdict(machine.this_machine()),
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
    return best_seconds(call, turns, clock)
