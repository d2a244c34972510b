"""The command line in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

Word = str | bytes


@dataclass(frozen=True)
class Ran:
    """What a finished command left behind."""

    status: int
    stdout: str
    stderr: str

    def assert_refused(self, *words: str) -> None:
        """One line on stderr that says every word, exit status 2, nothing on stdout."""
        assert self.status == 2, self
        assert self.stdout == ""
        assert self.stderr.startswith("masked_attn: error: ")
        assert self.stderr.count("\n") == 1, self.stderr
        for word in words:
            assert word in self.stderr


def run_command(*words: Word, stdin: bytes = b"", **environment: str) -> Ran:
    """Run ``python -m masked_attn`` to its end, without a network."""
    done = subprocess.run(
        _command(words),
        input=stdin,
        capture_output=True,
        env=_environment(environment),
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def start_command(*words: Word) -> subprocess.Popen[bytes]:
    """Start ``python -m masked_attn`` with pipes; Ctrl-C reaches it even in a background job."""
    return subprocess.Popen(
        _command(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment({}),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _command(words: tuple[Word, ...]) -> list[Word]:
    return [sys.executable, "-m", "masked_attn", *words]


def _environment(changes: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **changes}
