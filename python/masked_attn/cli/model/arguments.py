"""The options about the model that commands with one have."""

from __future__ import annotations

from typing import Any

from masked_attn.cli.numbers import whole_number

__all__ = ["DTYPES", "MAX_THREADS", "add_model", "add_stock"]

DTYPES = ("float32", "bfloat16", "float16", "float64")
MAX_THREADS = 1024


def add_model(parser: Any) -> None:
    """Which model, in which dtype, how many lines at once, on how many threads."""
    parser.add_argument(
        "--batch-size",
        type=whole_number(1),
        default=8,
        metavar="N",
        help="lines that run together (default 8)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="directory or hub name (default: the embedded small GPT-2)"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default float32")
    parser.add_argument(
        "--threads", type=whole_number(1, MAX_THREADS), metavar="N", help="CPU threads"
    )


def add_stock(parser: Any) -> None:
    """The switch that leaves ours out; ``parser`` may be a group of one."""
    parser.add_argument("--stock", action="store_true", help="leave the model unpatched")
