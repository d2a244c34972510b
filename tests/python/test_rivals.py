"""``benchmarks/rivals.py``: who is left out, who fails, and who shares the memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers"),
]


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "rivals.py"), "--quick", "--threads", "1", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        timeout=120,
        check=False,
    )


def test_a_rival_needs_an_environment() -> None:
    done = run("--systems", "sdpa", "openvino")
    assert done.returncode != 0
    assert "openvino: needs --environments" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rival_that_can_not_be_installed_has_a_row(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    environments = tmp_path / "environments"
    options = ["--environments", str(environments), "--workloads", "W3", "--dtypes", "float32"]
    done = run(*options, "--systems", "ctranslate2", "sdpa", "--json", str(file), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    lost, stock = json.loads(file.read_text())["tables"]["generate, GPT-2"]
    assert lost["system"].startswith("CTranslate2") and lost["total_s"] == "-"
    assert "not installed: ERROR" in lost["note"]
    assert stock["total_s"] > 0 and stock["equal_rows"] == "2 of 2"
    assert sorted(path.name for path in environments.iterdir()) == [
        "ctranslate2",
        "ctranslate2.log",
    ]


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    from rivals_systems.catalogue import SYSTEMS
    from rivals_systems.worker_process import WorkerFailed, WorkerProcess
    from rivals_systems.workers.serve import Task

    prompts = tmp_path / "prompts.json"
    prompts.write_text("{}")
    task = Task(str(tmp_path / "nothing"), "", str(prompts), "float32", 1, {})
    with pytest.raises(WorkerFailed, match="nothing"):
        WorkerProcess.start(SYSTEMS["sdpa"], Path(sys.executable), task, tmp_path / "log")


@pytest.mark.parametrize(
    ("names", "at_once", "expected"),
    [
        ("oabc", 4, ["oabc"]),
        ("oabc", 3, ["oac", "ob"]),
        ("oabc", 1, ["oa", "ob", "oc"]),
        ("abc", 2, ["ac", "b"]),
        ("o", 2, ["o"]),
    ],
)
def test_ours_is_in_every_group(names: str, at_once: int, expected: list[str]) -> None:
    from rivals_systems.turns import groups

    assert groups(list(names), "o", at_once) == [list(group) for group in expected]
