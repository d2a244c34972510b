"""Every model type of the installed transformers with attn_implementation="masked_attn".

Each type is built small and compared with stock eager attention: right, refused by name, wrong
(then the exit code is 1), not built, or a part of other types that is no model of its own. A type
has its own time and memory, so one that hangs or grows stops nothing else.

    python tools/every_model_type.py [TYPE ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SECONDS = 60
BYTES = 6 * 2**30
TESTS = Path(__file__).resolve().parent.parent / "tests" / "python" / "hf"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", help="only these")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    from transformers import CONFIG_MAPPING, __version__

    verdicts = judge_all(options.types or sorted(CONFIG_MAPPING))
    if options.json:
        options.json.write_text(json.dumps(verdicts, indent=1))
    print(f"\ntransformers {__version__}")
    print_counts(verdicts)
    return int(any(v["verdict"] == "wrong" for v in verdicts))


def work() -> int:
    """Judge the types of standard input, a line of JSON for each."""
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    sys.path.insert(0, str(TESTS))
    logging.disable(logging.ERROR)
    import torch
    from model_types.compare import judge

    import masked_attn.hf  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        print("@" + json.dumps(judge(line.strip()).as_dict()), flush=True)
    return 0


class Worker:
    """A process that judges one type after the other."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--worker"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def judge(self, model_type: str) -> dict[str, Any] | None:
        """The verdict, or None when the process died or took too long."""
        assert self.process.stdin is not None and self.process.stdout is not None
        clock = threading.Timer(SECONDS, self.process.kill)
        clock.start()
        try:
            self.process.stdin.write(model_type + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith("@"):
                    verdict: dict[str, Any] = json.loads(line[1:])
                    return verdict
        except BrokenPipeError:
            pass
        finally:
            clock.cancel()
        return None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def judge_all(types: list[str]) -> list[dict[str, Any]]:
    worker = Worker()
    verdicts = []
    for model_type in types:
        verdict = worker.judge(model_type)
        if verdict is None:
            worker.stop()
            worker = Worker()
            verdict = {
                "model_type": model_type,
                "verdict": "not built",
                "why": f"more than {SECONDS} s or {BYTES >> 30} GiB",
            }
        print(f"{model_type:32} {verdict['verdict']:10} {verdict['why']}", flush=True)
        verdicts.append(verdict)
    worker.stop()
    return verdicts


def print_counts(verdicts: list[dict[str, Any]]) -> None:
    counts = collections.Counter(v["verdict"] for v in verdicts)
    for name in ("right", "refused", "wrong", "not built", "a part"):
        print(f"{name:10} {counts[name]:4}")
    right = [v for v in verdicts if v["verdict"] == "right"]
    refused = [v for v in verdicts if v["verdict"] == "refused"]
    by_stock = sum("KeyError" in v["why"] for v in refused)
    print(f"of the refused: {by_stock} by stock's own KeyError for the name")
    print(f"of the right: {sum(v['on_interface'] for v in right)} ran masked_attn,")
    print(f"  {sum(bool(v['told']) for v in right)} said that they run stock attention,")
    print(f"  {sum(v['sees_padding'] for v in right)} change when the padding mask is left out")


if __name__ == "__main__":
    sys.exit(main())
