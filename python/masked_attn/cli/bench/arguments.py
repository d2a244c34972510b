"""The words of ``bench`` on the command line."""

from __future__ import annotations

import argparse
from typing import Any

from masked_attn.cli.bench.setting import DEMO, SIZES, size_named
from masked_attn.cli.bench.systems import SYSTEMS, parse_systems
from masked_attn.cli.bench.workload import WORKLOADS, parse_lengths
from masked_attn.cli.model.arguments import DTYPES, MAX_THREADS
from masked_attn.cli.numbers import whole_number

__all__ = ["add_bench"]

STDOUT = "-"


def add_bench(commands: Any) -> None:
    """Add the parser of ``bench``."""
    parser = commands.add_parser(
        "bench",
        help="time a stock model against a patched one, level by level",
        description="Time a stock model and masked_attn, level by level, on one batch of prompts.",
        epilog="systems: " + ", ".join(SYSTEMS),
        allow_abbrev=False,
    )
    _add_model(parser)
    _add_prompts(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument(
        "--threads", type=whole_number(1, MAX_THREADS), metavar="N", help="CPU threads"
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="timed runs, the best of which counts (default 3)",
    )
    parser.add_argument(
        "--systems", type=parse_systems, metavar="A,B", help="which take part (default: see below)"
    )
    parser.add_argument(
        "--no-memory", action="store_true", help="leave out peak memory: a new process each"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="write all figures to FILE; without FILE print them in place of the table",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw a bar chart, .png or .svg")


def _add_model(parser: Any) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--size",
        type=_size,
        default="124M",
        metavar="SIZE",
        help=f"{', '.join(SIZES)} (or small, medium, large, xl) with random weights, or {DEMO}, "
        "the embedded model (default 124M)",
    )
    which.add_argument("--model", metavar="NAME", help="directory or hub name of a decoder")


def _add_prompts(parser: Any) -> None:
    parser.add_argument(
        "--workload", choices=WORKLOADS, default="W1", help="lengths and new tokens (default W1)"
    )
    parser.add_argument(
        "--lengths",
        type=parse_lengths,
        metavar="N,N",
        help="tokens of each prompt: 64,128,...,512 or 512x8 (default: of the workload)",
    )
    parser.add_argument(
        "--new-tokens",
        type=whole_number(2),
        metavar="N",
        help="new tokens of each prompt (default: of the workload)",
    )


def _size(text: str) -> str:
    size = size_named(text)
    if size not in SIZES and size != DEMO:
        known = ", ".join((*SIZES, DEMO))
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {known}")
    return size
