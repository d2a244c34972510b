"""Every instruction set that this CPU has, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from masked_attn import _C

CHECK = Path(__file__).parents[1] / "support" / "instruction_set_check.py"
ALL = ("scalar", "avx2", "avx512", "avx512_bf16", "amx")


def run(name: str | None, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MASKED_ATTN_ISA"}
    if name is not None:
        environment["MASKED_ATTN_ISA"] = name
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


PRINT = ("-c", "from masked_attn import _C; print(_C.selected_instruction_set())")
USE = (
    "-c",
    "import torch, masked_attn; x = torch.ones(1, 1, 2, 4); masked_attn.masked_attention(x, x, x)",
)


@pytest.mark.parametrize("name", ALL)
def test_accuracy_and_exactness(name: str) -> None:
    if name not in _C.instruction_sets():
        pytest.skip(f"this CPU has {', '.join(_C.instruction_sets())}, not {name}")
    done = run(name, str(CHECK))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == name


def test_scalar_is_always_there_and_the_last_is_the_default() -> None:
    found = list(_C.instruction_sets())
    assert found == [name for name in ALL if name in found]
    assert "scalar" in found
    done = run(None, *PRINT)
    assert done.stdout.strip() == found[-1], done.stderr


@pytest.mark.parametrize("name", ["avx3", "AVX2", "sse"])
def test_an_unknown_set_fails_loudly(name: str) -> None:
    """Any attempt to compute says what was asked for."""
    done = run(name, *USE)
    assert done.returncode != 0
    assert "MASKED_ATTN_ISA" in done.stderr and name in done.stderr


@pytest.mark.parametrize("name", ALL)
def test_a_set_that_the_cpu_lacks_fails_loudly(name: str) -> None:
    if name in _C.instruction_sets():
        pytest.skip(f"this CPU has {name}: nothing to refuse")
    done = run(name, *USE)
    assert done.returncode != 0
    assert "MASKED_ATTN_ISA" in done.stderr and name in done.stderr
