"""Runs systems on models in this process: each is warmed up, then they take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from masked_attn.cli.bench import turns
from masked_attn.cli.bench.setting import Setting
from masked_attn.cli.bench.systems import SYSTEMS, System, make_model
from masked_attn.cli.bench.turns import Generations, Turn
from masked_attn.cli.progress import Progress

__all__ = ["Outcome", "generate", "generation", "host_clock", "take_turns"]

Batch = Mapping[str, Tensor]


@dataclass
class Outcome(Generations):
    """What the turns of one system gave; its tokens are ``[batch, new_tokens]``, on the CPU."""

    system: System


def take_turns(
    setting: Setting, outcomes: Sequence[Outcome], *, repeats: int, shown: Progress
) -> None:
    """Warm each system up, then time prompt and total of all of them in turn.

    A system that fails drops out; the others go on.

    Args:
        setting: model and prompts.
        outcomes: one for each system that takes part; filled turn by turn.
        repeats: turns that count.
        shown: told after each call of a system.
    """
    stock = setting.load()
    batch = setting.batch(stock)
    models: dict[str, Any] = {}
    for outcome in outcomes:
        warm = partial(_warm, outcome.system, stock, batch, setting)
        models[outcome.system.name] = outcome.attempt(warm)
        shown.done(1)

    def play(name: str) -> Turn:
        return generation(models[name], batch, setting.new_tokens, SYSTEMS[name].options)

    found = {outcome.system.name: outcome for outcome in outcomes}
    turns.take_turns(found, play, repeats, done=lambda: shown.done(1))


def generate(
    model: Any, batch: Batch, new_tokens: int, options: Mapping[str, Any] | None = None
) -> Tensor:
    """The new tokens ``[batch, new_tokens]`` of a greedy ``generate``.

    Args:
        model: a decoder, patched or not.
        batch: ``input_ids`` and ``attention_mask``.
        new_tokens: how many for each row.
        options: what ``generate`` is told besides.
    """
    tokens: Tensor = model.generate(
        **batch, max_new_tokens=new_tokens, do_sample=False, **(options or {})
    )
    return tokens[:, batch["input_ids"].shape[1] :]


def generation(
    model: Any, batch: Batch, new_tokens: int, options: Mapping[str, Any] | None = None
) -> Turn:
    """Seconds of the prompt, seconds of all, new tokens. The arguments are ``generate``'s."""
    prompt, _ = host_clock(lambda: generate(model, batch, 1, options))
    total, tokens = host_clock(lambda: generate(model, batch, new_tokens, options))
    return prompt, total, tokens.cpu()


def host_clock(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of ``run`` until its last kernel has ended on the GPU too, and its result."""
    _wait()
    start = time.perf_counter()
    result = run()
    _wait()
    return time.perf_counter() - start, result


def _warm(system: System, stock: Any, batch: Batch, setting: Setting) -> Any:
    """The model of a system after a short run; on a GPU all steps run: some are compiled then."""
    model = make_model(system, stock)
    steps = setting.new_tokens if setting.device == "cuda" else 2
    generate(model, batch, steps, system.options)
    return model


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
