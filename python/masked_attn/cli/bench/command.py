"""Runs ``bench``: checks first, then the turns, then memory, then table, JSON and picture."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from masked_attn.cli.bench.memory import Memory, measure_alone
from masked_attn.cli.bench.plot import check_plot, draw
from masked_attn.cli.bench.results import Row, is_noisy, make_rows, table
from masked_attn.cli.bench.running import Outcome, take_turns
from masked_attn.cli.bench.setting import Setting
from masked_attn.cli.bench.systems import SYSTEMS, System, default_systems
from masked_attn.cli.bench.workload import WORKLOADS, describe_lengths
from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.same_file import check_apart, check_output
from masked_attn.cli.info.machine import describe_gpu, this_machine, why_no_gpu
from masked_attn.cli.model.attention import require_patching
from masked_attn.cli.progress import progress

__all__ = ["run"]

STDOUT = "-"


def run(args: argparse.Namespace) -> int:
    """Measure and report.

    Returns:
        The exit status: 1 when a system of ours failed, else 0. A stock system that fails only has
        a row that says why.

    Raises:
        BadInput: something cannot be used.
        KeyboardInterrupt: Ctrl-C; what was measured before it is reported first.
    """
    setting = _setting(args)
    systems = [SYSTEMS[name] for name in args.systems or default_systems(args.dtype)]
    _check(args, setting, systems)
    torch.set_num_threads(setting.threads)
    lines = _header(args, setting)
    for_people = args.json != STDOUT
    if for_people:
        print("\n".join(lines), end="\n\n", flush=True)
    rows, stop = _measure(args, setting, systems)
    if stop is not None and not any(row["total_s"] for row in rows):
        raise stop
    if for_people:
        print(table(rows))
        print("\n".join(_notes(args, rows)))
    _write_json(args, setting, rows, interrupted=stop is not None)
    if args.plot:
        _writing(args.plot, lambda: draw(rows, "\n".join(lines[1:]), lines[0], args.plot))
    if stop is not None:
        raise stop
    failed = [row for row in rows if row["error"] and row["switches"] is not None]
    return 1 if failed else 0


def _setting(args: argparse.Namespace) -> Setting:
    chosen = WORKLOADS[args.workload]
    return Setting(
        size=args.size,
        model=args.model,
        dtype=args.dtype,
        device=args.device,
        threads=args.threads or torch.get_num_threads(),
        lengths=args.lengths or chosen.lengths,
        new_tokens=args.new_tokens or chosen.new_tokens,
    )


def _check(args: argparse.Namespace, setting: Setting, systems: Sequence[System]) -> None:
    """A mistake shows at once, not after minutes."""
    missing = why_no_gpu() if setting.device == "cuda" else None
    if missing is not None:
        raise BadInput(f"--device cuda: {missing}")
    if args.plot:
        check_plot(args.plot)
        _check_writable(args.plot)
    if args.json not in (None, STDOUT):
        _check_writable(args.json)
        if args.plot:
            check_apart(args.json, args.plot, "--json and --plot")
    setting.check_fit()
    if any(system.switches is not None for system in systems):
        require_patching()


def _measure(
    args: argparse.Namespace, setting: Setting, systems: Sequence[System]
) -> tuple[list[Row], KeyboardInterrupt | None]:
    """The rows, and what interrupted the measuring: minutes of it must not be lost."""
    calls = len(systems) * (args.repeats + (1 if args.no_memory else 2))
    outcomes = [Outcome(system) for system in systems]
    memories: dict[str, Memory | str] = {}
    stop = None
    try:
        with progress(calls, calls, unit="run") as shown:
            take_turns(setting, outcomes, repeats=args.repeats, shown=shown)
            for outcome in outcomes if not args.no_memory else ():
                if not outcome.error:
                    memories[outcome.system.name] = measure_alone(setting, outcome.system)
                shown.done(1)
    except KeyboardInterrupt as error:
        turns = max(len(outcome.total) for outcome in outcomes)
        error.args = (f"after {turns} of {args.repeats} runs",) if turns else ()
        stop = error
    return make_rows(outcomes, memories), stop


def _header(args: argparse.Namespace, setting: Setting) -> list[str]:
    """The machine, the model, the prompts: a line each."""
    machine = str(this_machine())
    if setting.device == "cuda":
        machine = f"{describe_gpu()}; {machine}"
    work = setting.work
    prompts = (
        f"{describe_lengths(work.lengths)} ({work.padding:.0%} padding), {work.new_tokens} new"
    )
    runs = "1 run" if args.repeats == 1 else f"best of {args.repeats} runs"
    return [machine, setting.described, f"{prompts}; greedy; {runs}"]


def _notes(args: argparse.Namespace, rows: Sequence[Row]) -> list[str]:
    """What the columns say, and what has no figure."""
    notes = [
        "",
        "prompt: generate with one new token; step: the rest of the total, for each further token;",
        "speed-up: of the total, against stock sdpa; tokens: rows with the same new tokens",
        "in brackets: steps of the fastest and the slowest run; spread: of the slowest total",
    ]
    if not args.no_memory:
        kind = "allocated on the GPU" if args.device == "cuda" else "resident"
        notes.append(f"peak: {kind}, in a process of its own; added: beyond the loaded model")
    noisy = [str(row["label"]) for row in rows if is_noisy(row)]
    if noisy:
        notes.append(
            f"NOISE: runs differ by more than a step ({', '.join(noisy)}): the machine was busy, "
            "or a step is short; take more --repeats or more --new-tokens"
        )
    return notes + [
        f"no memory figure of {row['label']}: {row['memory_error']}"
        for row in rows
        if row["memory_error"]
    ]


def _write_json(
    args: argparse.Namespace, setting: Setting, rows: Sequence[Row], *, interrupted: bool
) -> None:
    if args.json is None:
        return
    found: dict[str, Any] = {
        "machine": asdict(this_machine()),
        "gpu": describe_gpu() if setting.device == "cuda" else None,
        "setting": {**asdict(setting), "padding": setting.work.padding},
        "repeats": args.repeats,
        "interrupted": interrupted,
        "systems": list(rows),
    }
    text = json.dumps(found, indent=2)
    if args.json == STDOUT:
        print(text)
    else:
        _writing(args.json, lambda: Path(args.json).write_text(text + "\n"))


def _check_writable(file: str) -> None:
    path = Path(file)
    if path.is_dir():
        raise BadInput(f"cannot write {file}: it is a directory")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"cannot write {file}: no such directory, or no permission")
    check_output(file, file)


def _writing(file: str, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror or error}") from error
