"""Kills ``generate --output`` at random moments, resumes it, and checks every line of the output.

    python tools/kill_and_resume.py --lines 10000 --kills 3

Prints the size of the process over time: it must not grow with the lines. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TEXT = "It will rain in the morning and I want to eat a big bowl of soup with my little dog"
POLL_SECONDS = 0.05


@dataclass
class Run:
    """One process: when it ended, and what it weighed on the way."""

    seconds: float = 0.0
    lines: int = 0
    samples: list[tuple[float, int, int]] = field(default_factory=list)  # seconds, lines, MiB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="of the prompts and the moments")
    parser.add_argument("--sample-seconds", type=float, default=5.0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        write_prompts(given, args.lines, draw)
        options = ("--input", str(given), "--max-new-tokens", str(args.max_new_tokens))
        command = [sys.executable, "-m", "masked_attn", "generate", *options, "--output"]
        stops = sorted(draw.sample(range(1, args.lines), args.kills))
        for stop in [*stops, None]:
            run = run_until([*command, str(out), "--resume"], out, stop, args.sample_seconds)
            report("ended" if stop is None else "killed", run)
        whole = Path(folder, "whole.jsonl")
        report("not interrupted", run_until([*command, str(whole)], whole, None, 1e9))
        same = out.read_bytes() == whole.read_bytes()
        print("the same bytes" if same else "OTHER BYTES than without interruption")
        return check(given, out) or int(not same)


def report(what: str, run: Run) -> None:
    print(f"{what}: {run.seconds:.1f} s, {run.lines} lines on disk")
    for seconds, lines, mebibytes in run.samples:
        print(f"  {seconds:6.1f} s {lines:8} lines {mebibytes:6} MiB")


def write_prompts(file: Path, lines: int, draw: random.Random) -> None:
    """Prompts of 1 to 12 words, each with a number of its own."""
    with file.open("w") as stream:
        for number in range(lines):
            prompt = " ".join(draw.choices(TEXT.split(), k=draw.randint(1, 12)))
            stream.write(json.dumps({"id": number, "prompt": prompt}) + "\n")


def run_until(command: list[str], out: Path, stop: int | None, every: float) -> Run:
    """Run a command to its end, or kill it when the output has ``stop`` lines."""
    run, start, counted = Run(), time.monotonic(), LineCounter(out)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        due = every
        while process.poll() is None:
            run.seconds, run.lines = time.monotonic() - start, counted.lines()
            if run.seconds >= due:
                run.samples.append((run.seconds, run.lines, resident_mebibytes(process.pid)))
                due += every
            if stop is not None and run.lines >= stop:
                process.kill()
                break
            time.sleep(POLL_SECONDS)
    if process.returncode != (0 if stop is None else -9):
        raise SystemExit(f"exit status {process.returncode}")
    run.lines = counted.lines()
    return run


class LineCounter:
    """Counts the whole lines of a growing file without reading it again and again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._lines = 0

    def lines(self) -> int:
        if self._file.exists():
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
            whole = data.rfind(b"\n") + 1
            self._offset += whole
            self._lines += data.count(b"\n")
        return self._lines


def resident_mebibytes(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(sizes[0]) // 1024 if sizes else 0


def check(given: Path, out: Path) -> int:
    """Every line of the input, in order, once, with a completion."""
    wanted = [json.loads(line) for line in given.read_text().splitlines()]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    completions = [line.pop("completion", None) for line in found]
    good = found == wanted and all(isinstance(text, str) for text in completions)
    print(
        f"{len(found)} lines of {len(wanted)}:", "in order, none lost or doubled" if good else "BAD"
    )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
