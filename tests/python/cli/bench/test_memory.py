"""Peak memory of ``bench``: of a process of its own, of the run alone, and what a failure says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import run_command

from masked_attn.cli.bench import memory
from masked_attn.cli.bench.setting import Setting
from masked_attn.cli.bench.systems import SYSTEMS


@pytest.fixture
def setting(model_folder: Path) -> Setting:
    return Setting("124M", str(model_folder), "float32", "cpu", 1, (3, 7), 4)


def test_memory_is_that_of_a_process_of_its_own(model_folder: Path) -> None:
    words = ("--systems", "stock-sdpa", "--lengths", "3,30", "--new-tokens", "2", "--json")
    ran = run_command("bench", "--model", str(model_folder), "--repeats", "1", *words)
    assert ran.status == 0, ran
    (row,) = json.loads(ran.stdout)["systems"]
    assert row["memory_error"] is None
    assert 0 <= row["added_bytes"] < 50e6 < row["peak_bytes"]


def test_memory_says_what_a_run_added(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MB that are held for a moment during the run, and 200 MB before it."""

    def generate(model: Any, batch: Any, new_tokens: int, options: Any = None) -> torch.Tensor:
        return torch.ones(1, (200_000_000 if options is None else 64_000_000) // 4)

    monkeypatch.setattr(memory, "generate", generate)
    found = memory.measure(setting, SYSTEMS["stock-sdpa"])
    assert found.peak - found.before == pytest.approx(64e6, rel=0.1)


@pytest.mark.parametrize(
    ("status", "stderr", "said"),
    [
        (-9, "", "stopped by signal 9"),
        (1, "a warning\nValueError: no\n", "ValueError: no"),
        (3, "", "exit status 3"),
        (0, "", "exit status 0"),
    ],
)
def test_a_process_that_fails_says_why(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, status: int, stderr: str, said: str
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    assert memory.measure_alone(setting, SYSTEMS["stock-sdpa"]) == said


def test_the_process_ends_with_the_reason_of_a_failure(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = replace(setting, model="./no_such_folder")
    monkeypatch.setattr(sys, "argv", ["memory", lost.to_json(), "stock-sdpa"])
    assert memory.main() == 1
    assert capsys.readouterr().err == "BadInput: --model ./no_such_folder: no such directory\n"
