"""Everybody takes turns: what slows the machine for a while slows all of them.

The harness of everything that times whole generations, here and in the benchmark scripts. A turn is
one ``generate`` for a single new token, which is the prompt pass, and one for all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from masked_attn.cli.errors import reason

__all__ = ["Generations", "Turn", "step_ms", "take_turns"]

T = TypeVar("T")
Turn = tuple[float, float, Any]  # seconds of the prompt, seconds of all, new tokens


@dataclass(kw_only=True)
class Generations:
    """What the turns of one that takes part gave.

    Attributes:
        prompt: seconds of a call for one new token, one for each turn.
        total: seconds of a call for all new tokens.
        tokens: new tokens of the first of those calls, a row for each prompt.
        error: why it did not run; empty when it did.
    """

    prompt: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    tokens: Any = None
    error: str = ""

    @property
    def measured(self) -> bool:
        """Whether there are figures: it did not fail, and a turn of it has ended."""
        return not self.error and bool(self.total)

    @property
    def median_total(self) -> float:
        """Seconds of all new tokens, of the turn in the middle."""
        return statistics.median(self.total)

    def steps_ms(self, new_tokens: int) -> list[float]:
        """Milliseconds of each new token after the first, one figure for each turn."""
        turns = zip(self.prompt, self.total, strict=True)
        return [step_ms(prompt, total, new_tokens) for prompt, total in turns]

    def attempt(
        self,
        call: Callable[[], T],
        failures: tuple[type[Exception], ...] = (Exception,),
        why: Callable[[BaseException], str] = reason,
    ) -> T | None:
        """The result of ``call``; ``None`` if it fails, or something failed before.

        Args:
            call: part of the run.
            failures: what it may fail with; the reason stays in ``error``. Others are raised.
            why: an error -> the reason in one line.
        """
        if self.error:
            return None
        try:
            return call()
        except failures as error:
            self.error = why(error)
            return None

    def add(self, prompt: float, total: float, tokens: Any) -> None:
        """Keep the figures of a turn."""
        self.prompt.append(prompt)
        self.total.append(total)
        if self.tokens is None:
            self.tokens = tokens


def take_turns(
    found: Mapping[str, Generations],
    play: Callable[[str], Turn],
    repeats: int,
    *,
    failures: tuple[type[Exception], ...] = (Exception,),
    why: Callable[[BaseException], str] = reason,
    done: Callable[[], object] = lambda: None,
) -> None:
    """Let all play in turn; who fails drops out. The order is reversed in every other turn.

    Args:
        found: name -> figures; filled turn by turn, so that an interruption leaves what was
            measured.
        play: name -> a turn of that one.
        repeats: turns that count.
        failures: what one may fail with. Others are raised.
        why: an error -> the reason in one line.
        done: called after each turn of each.
    """
    for turn in range(repeats):
        for name in found if turn % 2 == 0 else reversed(list(found)):
            took = found[name].attempt(partial(play, name), failures, why)
            if took is not None:
                found[name].add(*took)
            done()


def step_ms(prompt: float, total: float, new_tokens: int) -> float:
    """Milliseconds of each new token after the first: what is left of the seconds of all."""
    return 1e3 * (total - prompt) / (new_tokens - 1)
