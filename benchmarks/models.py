"""Patched models of several families against stock code (SDPA), in one run and in turn.

Random weights, float32. Decoders generate: W1 (prompts of 64, 128, ..., 512 tokens, padded on the
left, 64 new tokens), W2 (prompts of 512, 64 new), W3 (prompts of 8, 16, ..., 64, 128 new). Encoders
get 32 sentences of 16 to 256 tokens, padded on the right, and run inside sentence-transformers if
that is installed. `python_step` is the Python time of a step in models of width 32, with one
thread. Scores, tokens and hidden states must be those of the stock model, or the script fails.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

import torch

from common.options import make_parser, start
from common.report import Report
from masked_attn.cli.bench.workload import WORKLOADS
from models_cases.decoder import measure_decoder
from models_cases.encoder import measure_encoder
from models_cases.python_step import measure_python_step, package_folder
from models_cases.shapes import DECODERS, ENCODERS

PYTHON_STEP = "python_step"
MODELS = (*DECODERS, *ENCODERS, PYTHON_STEP)


def folder(text: str) -> Path:
    try:
        return package_folder(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def measure(report: Report, name: str, against: Path | None) -> None:
    if name in DECODERS:
        measure_decoder(report, name)
    elif name in ENCODERS:
        measure_encoder(report, name)
    else:
        measure_python_step(report, against)
    gc.collect()  # the weights of one model are gone before the next one is made


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__, repeats=3)
    add = parser.add_argument
    add("--model", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    add(
        "--workload",
        nargs="+",
        choices=WORKLOADS,
        default=["W1", "W3"],
        help="of the decoders (default: W1 W3)",
    )
    add(
        "--against",
        type=folder,
        metavar="CHECKOUT",
        help="another checkout with its built libraries, as a rival of python_step",
    )
    options = parser.parse_args()
    against, options.against = options.against, bool(options.against)
    report = start(options)
    for name in options.model:
        measure(report, name, against)
    report.finish()


if __name__ == "__main__":
    main()
