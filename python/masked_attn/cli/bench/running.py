"""Runs the systems in turn: what slows the machine for a while slows all of them.

Each turn is one ``generate`` for a single new token, which is the prompt pass, and one for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from masked_attn.cli.bench.setting import Setting
from masked_attn.cli.bench.systems import System, make_model
from masked_attn.cli.errors import reason
from masked_attn.cli.progress import Progress

__all__ = ["Outcome", "generate", "host_clock", "take_turns"]

Batch = Mapping[str, Tensor]
T = TypeVar("T")


@dataclass
class Outcome:
    """What the turns of one system gave.

    Attributes:
        prompt: seconds of a call for one new token, one for each turn.
        total: seconds of a call for all new tokens.
        tokens: new tokens of the first of those calls, ``[batch, new_tokens]``.
        error: why it did not run; empty when it did.
    """

    system: System
    prompt: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    tokens: Tensor | None = None
    error: str = ""

    @property
    def measured(self) -> bool:
        """Whether there are figures: it did not fail, and a turn of it has ended."""
        return not self.error and bool(self.total)

    def add(self, prompt: float, total: float, tokens: Tensor) -> None:
        """Keep the figures of a turn."""
        self.prompt.append(prompt)
        self.total.append(total)
        if self.tokens is None:
            self.tokens = tokens.cpu()


def take_turns(
    setting: Setting, outcomes: Sequence[Outcome], *, repeats: int, shown: Progress
) -> None:
    """Warm each system up, then time prompt and total of all of them in turn.

    A system that fails drops out; the others go on. The order is reversed in every other turn.

    Args:
        setting: model and prompts.
        outcomes: one for each system that takes part; filled turn by turn, so that an interruption
            leaves what was measured.
        repeats: turns that count.
        shown: told after each call of a system.
    """
    stock = setting.load()
    batch = setting.batch(stock)
    models: dict[str, Any] = {}
    for outcome in outcomes:
        warm = partial(_warm, outcome.system, stock, batch, setting)
        models[outcome.system.name] = _attempt(outcome, warm)
        shown.done(1)
    for turn in range(repeats):
        for outcome in outcomes if turn % 2 == 0 else reversed(outcomes):
            system = outcome.system
            took = _attempt(outcome, partial(_turn, system, models[system.name], batch, setting))
            if took is not None:
                outcome.add(*took)
            shown.done(1)


def generate(
    model: Any, batch: Batch, new_tokens: int, options: Mapping[str, Any] | None = None
) -> Tensor:
    """The new tokens ``[batch, new_tokens]`` of a greedy ``generate``.

    Args:
        model: a GPT-2, patched or not.
        batch: ``input_ids`` and ``attention_mask``.
        new_tokens: how many for each row.
        options: what ``generate`` is told besides.
    """
    tokens: Tensor = model.generate(
        **batch, max_new_tokens=new_tokens, do_sample=False, **(options or {})
    )
    return tokens[:, batch["input_ids"].shape[1] :]


def host_clock(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of ``run`` until its last kernel has ended on the GPU too, and its result."""
    _wait()
    start = time.perf_counter()
    result = run()
    _wait()
    return time.perf_counter() - start, result


def _attempt(outcome: Outcome, call: Callable[[], T]) -> T | None:
    """A system may fail with anything; the reason stays in its outcome."""
    if outcome.error:
        return None
    try:
        return call()
    except Exception as error:
        outcome.error = reason(error)
        return None


def _warm(system: System, stock: Any, batch: Batch, setting: Setting) -> Any:
    """The model of a system after a short run; on a GPU all steps run: some are compiled then."""
    model = make_model(system, stock)
    steps = setting.new_tokens if setting.device == "cuda" else 2
    generate(model, batch, steps, system.options)
    return model


def _turn(
    system: System, model: Any, batch: Batch, setting: Setting
) -> tuple[float, float, Tensor]:
    """Seconds of the prompt, seconds of all, new tokens."""
    prompt, _ = host_clock(lambda: generate(model, batch, 1, system.options))
    total, tokens = host_clock(lambda: generate(model, batch, setting.new_tokens, system.options))
    return prompt, total, tokens


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
