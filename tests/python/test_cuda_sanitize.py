"""``make cuda-sanitize``: the tests that it names are there, and it says what is missing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "cuda_sanitize.sh"
NAMED = re.findall(r"(tests/python/\S+\.py)::(\w+)", SCRIPT.read_text())


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_the_named_test_is_there_and_runs_on_a_device(path: str, test: str) -> None:
    arguments = re.search(rf"^def {test}\((.*?)\)", (ROOT / path).read_text(), re.DOTALL | re.M)
    assert arguments is not None and "device" in arguments[1]


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def run(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.run(
        [SCRIPT],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    """A sanitizer that must not be called, and a Python in which CUDA is no use."""
    program(tmp_path / "compute-sanitizer", "exit 1")
    for script in ("echo no GPU", "echo no GPU >&2; exit 1"):
        program(tmp_path / "python", script)
        done = run(tmp_path, GPU_PYTHON=str(tmp_path / "python"))
        assert done.returncode != 0
        assert done.stderr == "make: stopped: nothing can run on CUDA: no GPU\n"
    done = run(tmp_path, GPU_PYTHON=str(tmp_path / "nowhere"))
    assert done.returncode != 0
    assert "there is no" in done.stderr and done.stderr.count("\n") == 1
