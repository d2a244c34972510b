"""Processes that write a file and are stopped: by signals, by kills, by a reader that leaves."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import Ran, start_command

LINES = 1200


@pytest.fixture
def words(tmp_path: Path, model_folder: Path) -> list[str]:
    """A command line whose run takes some seconds, long enough to be stopped in it."""
    texts = ("My dog is", "It will rain in the", "We", "I want to eat a big bowl of")
    with (tmp_path / "in.jsonl").open("w") as file:
        for number in range(LINES):
            file.write(json.dumps({"id": number, "prompt": texts[number % 4]}) + "\n")
    return [
        *("generate", "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out")),
        *("--model", str(model_folder), "--max-new-tokens", "12", "--batch-size", "4"),
    ]


def wait_for_lines(process: subprocess.Popen[bytes], file: Path, size: int) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or file.stat().st_size < size:
        assert process.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_leaves_whole_lines_and_says_how_many(
    words: list[str], tmp_path: Path, number: signal.Signals, status: int, word: str
) -> None:
    out = tmp_path / "out"
    with start_command(*words) as process:
        wait_for_lines(process, out, 1000)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    data = out.read_bytes()
    assert data.endswith(b"\n")
    assert [json.loads(line)["id"] for line in data.splitlines()] == list(range(data.count(b"\n")))
    assert (process.returncode, stdout) == (status, b"")
    lines = data.count(b"\n")
    assert lines < LINES
    assert (
        stderr.decode() == f"masked_attn: {word}; {out} holds {lines} whole lines; "
        "--resume continues\n"
    )


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_repeat_nothing(
    words: list[str], tmp_path: Path, run_here: Callable[..., Ran]
) -> None:
    out, draw = tmp_path / "out", random.Random(11)
    for _ in range(3):
        held = out.stat().st_size if out.exists() else 0
        with start_command(*words, "--resume") as process:
            wait_for_lines(process, out, held + draw.randint(1, 12_000))
            process.kill()
        assert process.returncode == -signal.SIGKILL
    assert run_here(*words, "--resume").status == 0
    resumed = out.read_bytes()
    assert run_here(*words, "--overwrite").status == 0
    assert resumed == out.read_bytes()
    assert [json.loads(line)["id"] for line in resumed.splitlines()] == list(range(LINES))


def test_a_reader_that_goes_away_ends_it_quietly(words: list[str]) -> None:
    words[words.index("--output") + 1] = "-"
    with start_command(*words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == 0
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, stderr) == (141, b"")


def test_two_runs_do_not_write_one_file(
    words: list[str], tmp_path: Path, run_here: Callable[..., Ran]
) -> None:
    with start_command(*words) as process:
        wait_for_lines(process, tmp_path / "out", 1)
        run_here(*words, "--resume").assert_refused("is being written by another process")
        process.kill()
