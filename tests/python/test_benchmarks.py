"""The benchmark scripts run, print a table and write JSON. How fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import masked_attn

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))

needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="needs transformers"
)
NEED_TRANSFORMERS = (
    "cached_attention",
    "expand_mask",
    "generate",
    "generate_profile",
    "models",
    "never_slower_layers",
    "rivals",
    "threads",
)

# All systems would take minutes, or environments of their own.
FEWER = {"rivals": ("--systems", "masked_attn", "sdpa", "static", "--dtypes", "float32")}


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{script}.py"), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            script,
            marks=[needs_transformers, pytest.mark.integration]
            if script in NEED_TRANSFORMERS
            else [],
        )
        for script in SCRIPTS
    ],
)
def test_a_script_prints_tables_and_writes_json(script: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ("--quick", "--threads", "1", "--repeats", "1", "--json", str(file))
    done = run(script, *options, *FEWER.get(script, ()))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["script"] == script
    assert found["machine"]["products"] > 0 and found["machine"]["reading"] > 0
    assert found["tables"]
    for name, rows in found["tables"].items():
        assert name in done.stdout
        assert rows or "below 1.0" in name
        for row in rows:
            assert all(value >= 0 for value in row.values() if not isinstance(value, str))


@needs_transformers
@pytest.mark.integration
def test_a_python_step_against_another_checkout(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    here = str(Path(masked_attn.__file__).parents[1])
    options = ("--model", "python_step", "--against", here, "--json", str(file))
    done = run("models", "--quick", "--threads", "1", "--repeats", "1", *options)
    assert done.returncode == 0, done.stderr
    (rows,) = json.loads(file.read_text())["tables"].values()
    rivals = {(row["case"], row["rival"]) for row in rows}
    cases = ("gpt2, forward", "gpt2, generate", "llama, forward", "llama, generate")
    assert rivals == {
        (case, rival) for case in cases for rival in ("stock, sdpa", "masked_attn, --against")
    }
    assert here not in file.read_text()


def test_a_checkout_without_libraries_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    done = run("models", "--quick", "--against", str(tmp_path))
    assert done.returncode != 0
    assert "no masked_attn with its libraries" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "growth.svg"
    done = run("growth", "--quick", "--threads", "1", "--repeats", "1", "--plot", str(file))
    assert done.returncode == 0, done.stderr
    assert "<svg" in file.read_text()


@pytest.mark.parametrize("option", ["--threads", "--repeats"])
def test_less_than_one_is_refused(option: str) -> None:
    done = run("masked_softmax", "--quick", option, "0")
    assert done.returncode != 0
    assert "at least 1" in done.stderr
    assert "Traceback" not in done.stderr
