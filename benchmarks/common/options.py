"""The options that every script has, and the start of every script."""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from masked_attn.cli.info.machine import why_no_gpu

from .gpu import measure_gpu
from .machine import Machine, measure
from .report import Report
from .workloads import DTYPES, GPT2, QUICK, Sizes

__all__ = ["make_parser", "sizes", "start"]


def make_parser(
    docstring: str | None, *, repeats: int = 7, gpu: bool = False, dtype: bool = False
) -> argparse.ArgumentParser:
    """Make a parser with the common options.

    Args:
        docstring: that of the script; ``--help`` shows it.
        repeats: default of ``--repeats``.
        gpu: the script can run on a GPU: add ``--device``.
        dtype: add ``--dtype``.
    """
    parser = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of torch and ours (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=repeats, help="timed turns (default: %(default)s)"
    )
    parser.set_defaults(device="cpu")
    if gpu:
        parser.add_argument("--device", choices=("cpu", "cuda"), help="default: %(default)s")
    if dtype:
        parser.add_argument(
            "--dtype", choices=DTYPES, default="float32", help="default: %(default)s"
        )
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--plot", metavar="FILE", help="draw the tables (needs matplotlib)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that the script runs, nothing else"
    )
    return parser


def start(options: argparse.Namespace) -> Report:
    """Set threads and seed, measure the machine and print what it is."""
    if options.threads < 1 or options.repeats < 1:
        raise SystemExit("--threads and --repeats must be at least 1")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    report = Report(options, _machine(options))
    print(report.machine)
    if options.quick:
        print("--quick: these figures mean nothing")
    return report


def sizes(options: argparse.Namespace) -> Sizes:
    """GPT-2 124M, or something tiny, on the device of the run."""
    return replace(QUICK if options.quick else GPT2, device=options.device)


def _machine(options: argparse.Namespace) -> Machine:
    if options.device == "cpu":
        return measure(options.quick)
    missing = why_no_gpu()
    if missing is not None:
        raise SystemExit(f"--device {options.device}: {missing}")
    return measure_gpu(options.quick, DTYPES[getattr(options, "dtype", "float32")])
