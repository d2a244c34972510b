"""Two clocks: the host's counts launches too, the GPU's only what the GPU does.

The surprise: the GPU's clock first lets the GPU idle for a while, so that the host has launched
everything before the first kernel starts. Else short kernels would be timed at the host's pace.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from masked_attn.cli.bench.running import host_clock

__all__ = ["Clock", "best_seconds", "clock_of", "gpu_clock", "host_clock"]

Clock = Callable[[Callable[[], Tensor]], tuple[float, Tensor]]

HEAD_STARTS = (20_000_000, 200_000_000)  # cycles: 10 and 100 ms of a GPU at 2 GHz


def gpu_clock(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds between two CUDA events around ``run``, and its result.

    Where even the longer head start is over before everything is launched, launches are counted.
    """
    for head_start in HEAD_STARTS:
        idle_ends, begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        torch.cuda.synchronize()
        torch.cuda._sleep(head_start)
        idle_ends.record()
        begin.record()
        result = run()
        launched_in_time = not idle_ends.query()
        end.record()
        end.synchronize()
        if launched_in_time:
            break
    return 1e-3 * begin.elapsed_time(end), result


def clock_of(device: str) -> Clock:
    """The clock that compares operators on ``device``."""
    return gpu_clock if device == "cuda" else host_clock


def best_seconds(run: Callable[[], Tensor], turns: int, clock: Clock = host_clock) -> float:
    """Seconds of the fastest of several turns of one that is warm and has no rival."""
    return min(clock(run)[0] for _ in range(turns))
