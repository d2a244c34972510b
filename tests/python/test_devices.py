"""Without CUDA one test says that the others were left out, and fails where CUDA is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.devices import why_no_cuda

from masked_attn import _C

FILE = Path(__file__).parent / "ops" / "test_expand_mask.py"
LEFT_OUT = "2 tests on CUDA were left out: "


def run(required: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Two tests, each on the CPU and on CUDA, in a process that sees no GPU."""
    tests = [f"{FILE}::{name}" for name in ("test_by_hand", "test_strided_mask")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *options, *tests],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "MASKED_ATTN_REQUIRE_CUDA": required},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_one_skip_stands_for_all() -> None:
    done = run("")
    assert done.returncode == 0, done.stdout
    assert "2 passed, 1 skipped, 1 deselected" in done.stdout and LEFT_OUT in done.stdout


@pytest.mark.parametrize("options", [(), ("-m", "cuda")], ids=str)
def test_where_cuda_is_required_it_is_an_error(options: tuple[str, ...]) -> None:
    done = run("1", *options)
    assert done.returncode == 1, done.stdout
    assert f"MASKED_ATTN_REQUIRE_CUDA is set, but {LEFT_OUT}" in done.stdout


def test_who_asks_for_the_cpu_hears_nothing_of_cuda() -> None:
    done = run("1", "-m", "not cuda")
    assert done.returncode == 0, done.stdout
    assert "2 passed, 2 deselected" in done.stdout and "CUDA" not in done.stdout


def test_the_reason_is_the_first_thing_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"cuda": False, "cuda_reason": "there is no nvcc"}
    monkeypatch.setattr(_C, "build_info", lambda: facts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is not a build for CUDA" in str(why_no_cuda())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "built without CUDA kernels (there is no nvcc)" in str(why_no_cuda())
    facts["cuda"] = True
    assert "finds no GPU" in str(why_no_cuda())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert why_no_cuda() is None
