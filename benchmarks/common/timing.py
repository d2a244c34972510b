"""Rivals take turns in one process: what slows the machine for a while slows all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .clock import Clock, host_clock

__all__ = ["Contender", "Times", "seconds", "take_turns", "timed_turns"]

Check = Callable[[Mapping[str, Tensor]], None]


def _as_it_is(result: Tensor) -> Tensor:
    return result


@dataclass(frozen=True)
class Contender:
    """One of those that are compared.

    Args:
        run: what is timed; returns its (last) result.
        prepare: runs before every turn, outside the timing.
        calls: operator calls in one run; times are given per call.
        unpack: puts a result into the shape of the others', outside the timing.
    """

    run: Callable[[], Tensor]
    prepare: Callable[[], object] | None = None
    calls: int = 1
    unpack: Callable[[Tensor], Tensor] = _as_it_is


@dataclass(frozen=True)
class Times:
    """Milliseconds per call, one sample for each turn."""

    samples: tuple[float, ...]

    @property
    def best(self) -> float:
        """Milliseconds of the fastest turn."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """Milliseconds of the turn in the middle."""
        return statistics.median(self.samples)


def seconds(contender: Contender, clock: Clock = host_clock) -> tuple[float, Tensor]:
    """Run one turn; return the seconds of the whole run, and its result."""
    if contender.prepare is not None:
        contender.prepare()
    return clock(contender.run)


def take_turns(
    contenders: Mapping[str, Contender],
    repeats: int,
    check: Check | None = None,
    clock: Clock = host_clock,
) -> dict[str, Times]:
    """Time all contenders in turn: one warm-up turn that does not count, then ``repeats`` turns.

    Args:
        contenders: name -> what to run.
        repeats: turns that count.
        check: gets name -> result of the warm-up turn; raises when they do not agree.
        clock: what times a run.

    Returns:
        name -> milliseconds per call.
    """
    results = {name: seconds(contender, clock)[1] for name, contender in contenders.items()}
    if check is not None:
        check(results)
    results.clear()
    return timed_turns(contenders, repeats, clock)


def timed_turns(
    contenders: Mapping[str, Contender], repeats: int, clock: Clock = host_clock
) -> dict[str, Times]:
    """The turns of ``take_turns`` that count, for those that are warm already."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            samples[name].append(1e3 * seconds(contender, clock)[0] / contender.calls)
    return {name: Times(tuple(values)) for name, values in samples.items()}
