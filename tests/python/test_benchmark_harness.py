"""What the benchmark scripts share: turns, whole generations as cells, and the cells below 1.0."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from masked_attn.cli.bench.turns import Generations
from masked_attn.cli.bench.workload import WORKLOADS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# The package `common` is found while it is imported, and its modules stay.
sys.path.insert(0, str(BENCHMARKS))
try:
    from common.clock import best_seconds
    from common.generations import ratios, times
    from common.report import Column, Report
    from common.timing import Contender, timed_turns
    from common.workloads import ragged_lengths
finally:
    sys.path.pop(0)


def clock_of(seconds: list[float]) -> Any:
    left = iter(seconds)
    return lambda run: (next(left), run())


def test_operators_are_timed_in_turn_and_per_call() -> None:
    seen: list[str] = []

    def contender(name: str, calls: int) -> Contender:
        return Contender(lambda: seen.append(name) or torch.ones(1), calls=calls)

    pair = {"ours": contender("ours", 2), "rival": contender("rival", 1)}
    found = timed_turns(pair, 2, clock_of([2.0, 3.0, 4.0, 5.0]))
    assert seen == ["ours", "rival"] * 2, "no turn that does not count"
    assert found["ours"].samples == (1000.0, 2000.0)
    assert found["rival"].samples == (3000.0, 5000.0)


def test_the_fastest_of_several_turns_counts() -> None:
    assert best_seconds(lambda: torch.ones(1), 3, clock_of([3.0, 1.0, 2.0])) == 1.0


def test_only_rows_in_which_the_rival_is_faster_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = argparse.Namespace(json=None, plot=None)
    report = Report(options, SimpleNamespace())  # type: ignore[arg-type]
    table = report.table("all", (Column("case", "case"), Column("ratio_best", "ratio")))
    for case, ratio in (("even", 1.0), ("slower", 0.99), ("faster", 1.5)):
        table.add({"case": case, "ratio_best": ratio})
    capsys.readouterr()
    report.list_slower(table)
    assert [row["case"] for row in report.tables[-1].rows] == ["slower"]
    printed = capsys.readouterr().out
    assert printed.startswith("\n1 of 3 cells below 1.0\n") and "even" not in printed


def test_cells_of_a_generation_are_of_the_fastest_calls() -> None:
    mine = Generations(prompt=[1.0, 2.0, 0.5], total=[4.0, 3.0, 5.0])
    cells = times(mine, new_tokens=3)
    assert cells == {"prompt_s": 0.5, "total_s": 3.0, "median_total_s": 4.0, "step_ms": 500.0}
    stock = times(Generations(prompt=[1.0], total=[6.0]), new_tokens=3)
    assert ratios(stock, cells) == {"ratio_prompt": 2.0, "ratio_best": 2.0, "ratio_step": 5.0}


def test_operators_and_generations_have_the_same_ragged_lengths() -> None:
    assert WORKLOADS["W1"].lengths == tuple(ragged_lengths(8, 512))
    assert WORKLOADS["W3"].lengths == tuple(ragged_lengths(8, 64))
