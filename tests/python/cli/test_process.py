"""The process around the work: Ctrl-C, a reader that goes away, a terminal, the example."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import Ran, run_command, start_command

from masked_attn.cli.progress import progress

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def many_prompts(tmp_path: Path, model_folder: Path) -> list[str]:
    """Words of a run that prints at once and goes on for minutes."""
    file = tmp_path / "prompts.txt"
    file.write_text("My dog is\n" * 20000)
    words = ["generate", "--input", str(file), "--batch-size", "1", "--model", str(model_folder)]
    return [*words, "--max-new-tokens", "40"]


def test_ctrl_c_ends_with_one_line(many_prompts: list[str]) -> None:
    with start_command(*many_prompts) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"[1] My dog is")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b"masked_attn: interrupted\n"


def test_a_reader_that_goes_away_ends_it_quietly(many_prompts: list[str]) -> None:
    with start_command(*many_prompts) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 141
    assert stderr == b""


def test_memory_that_cannot_be_had_is_one_line(
    run_here: Callable[..., Ran], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes\nmore")

    monkeypatch.setattr("masked_attn.cli.model.engine.decode_batch", decode)
    ran = run_here("generate", "a", "--model", str(model_folder))
    ran.assert_refused("out of memory", "9 bytes")


def test_a_bug_of_ours_is_not_hidden(
    run_here: Callable[..., Ran], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("masked_attn.cli.model.engine.decode_batch", decode)
    with pytest.raises(RuntimeError, match="a bug"):
        run_here("generate", "a", "--model", str(model_folder))


def test_characters_that_the_terminal_lacks_are_escaped(model_folder: Path) -> None:
    ran = run_command("generate", "Grüße", "--model", str(model_folder), PYTHONIOENCODING="ascii")
    assert ran.status == 0
    assert r"[1] Gr\xfc\xdfe" in ran.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "batches", "drawn"),
    [(Terminal(), 2, True), (Terminal(), 1, False), (io.StringIO(), 2, False)],
)
def test_a_progress_bar_is_drawn_where_it_helps(
    stream: io.StringIO, batches: int, drawn: bool
) -> None:
    with progress(prompts=4, batches=batches, stream=stream) as shown:
        shown.done(2)
        shown.print("a line")
    assert ("prompt" in stream.getvalue()) == drawn


def test_a_bar_of_nobody_knows_how_many(capfd: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    with progress(None, batches=2, stream=stream) as shown:
        shown.done(3)
        shown.note("a line")
    assert "prompt" in stream.getvalue()
    assert capfd.readouterr() == ("", "a line\n")


def test_a_bar_starts_behind_an_earlier_run() -> None:
    stream = Terminal()
    with progress(10, batches=2, stream=stream) as shown:
        shown.already(6)
        shown.done(2)
    assert "6/10" in stream.getvalue() and "| 2/10" not in stream.getvalue()


@pytest.mark.parametrize("command", ["generate", "score"])
def test_the_bar_of_a_file_knows_the_total_and_what_is_done(
    run_here: Callable[..., Ran],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    file, out = tmp_path / "in.txt", tmp_path / "out"
    file.write_text("My dog is\n" * 5)
    words = (command, "--input", str(file), "--output", str(out), "--model", str(model_folder))
    assert run_here(*words).status == 0
    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:3]))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run_here(*words, "--resume", "--batch-size", "2").status == 0
    assert "3/5" in terminal.getvalue() and "1/5" not in terminal.getvalue()


@pytest.mark.slow
def test_the_example_runs_without_a_network(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "gpt2_generate.py"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=True,
    )
    first, *completions = done.stdout.splitlines()
    assert "embedded model" in first
    assert completions[0].startswith("It will rain in the ")
