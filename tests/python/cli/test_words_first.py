"""Help, the version and mistakes come without the seconds that importing torch takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import masked_attn
from masked_attn import _program

PACKAGES = Path(masked_attn.__file__).parents[1]
SCRIPT = "import sys; sys.argv[0] = '/bin/masked-attn'; from masked_attn.cli import main; main()"
STARTS = {
    "module": ("-m", "masked_attn"),
    "module in one word": ("-mmasked_attn",),
    "module after options": ("-X", "utf8", "-W", "ignore", "-m", "masked_attn"),
    "script": ("-c", SCRIPT),
}


@pytest.fixture
def no_torch(tmp_path: Path) -> Path:
    """A folder whose torch says that it was imported."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": f"{folder}:{PACKAGES}"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("how", STARTS)
def test_every_start_reads_its_words_first(no_torch: Path, how: str) -> None:
    done = start(no_torch, *STARTS[how], "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m masked_attn")
    assert start(no_torch, *STARTS[how], "info").stderr == "torch was imported\n"


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ("--version", 0, f"masked_attn {masked_attn.__version__}\n"),
        ("bench --help", 0, "usage: python -m masked_attn bench"),
        ("frobnicate", 2, "masked_attn: error: argument COMMAND: invalid choice"),
        ("generate", 2, "masked_attn: error: no prompt: give one or more prompts"),
        ("generate a --top-k 3", 2, "masked_attn: error: --top-k does nothing without"),
        ("score --input f --resume", 2, "masked_attn: error: --resume needs --output FILE"),
        ("bench --lengths 3,,4", 2, "masked_attn: error: argument --lengths: must be"),
    ],
)
def test_what_needs_no_torch_does_without(
    no_torch: Path, words: str, status: int, text: str
) -> None:
    done = start(no_torch, "-m", "masked_attn", *words.split())
    assert done.returncode == status
    assert (done.stderr or done.stdout).startswith(text)
    assert not (done.stderr and done.stdout)


@pytest.mark.parametrize(
    ("argv", "original", "program"),
    [
        (["-m", "--help"], ["python", "-m", "masked_attn", "--help"], True),
        (["-m"], ["python", "-mmasked_attn"], True),
        (["/env/bin/masked-attn", "info"], ["python", "/env/bin/masked-attn", "info"], True),
        (["-m", "masked_attn"], ["python", "-m", "pytest", "masked_attn"], False),
        (["-m", "x"], ["python", "-m", "masked_attn.cli.bench.memory", "x"], False),
        (["-c", "--help"], ["python", "-c", "import masked_attn", "--help"], False),
        (["train.py", "--help"], ["python", "train.py", "--help"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_only_the_program_does_so(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], original: list[str], program: bool
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert _program.is_program() == program


def test_an_import_still_registers_the_operators() -> None:
    code = "import masked_attn, torch; print(torch.ops.masked_attn.expand_mask.default)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout == str(torch.ops.masked_attn.expand_mask.default) + "\n"


def test_a_reader_of_the_version_that_went_away(no_torch: Path) -> None:
    """As every other command: no traceback, and the status of a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-u", "-m", "masked_attn", "--version"],
        env={**os.environ, "PYTHONPATH": f"{no_torch}:{PACKAGES}"},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
