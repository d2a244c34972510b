"""One token step of attention with its cache (append and attend), over 12 layers.

GPT-2 124M shapes: batch 8, 12 heads of 64; milliseconds for all 12 layers. The rivals are
``DynamicCache`` (concatenates) and a static buffer as ``StaticCache`` has it, each with SDPA. GB/s
count the visible keys and values only, beside the read bandwidth of the machine.

On a GPU a second table has the same by the host's clock, launches included.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from common import token_step
from common.clock import Clock, host_clock
from common.compare import columns, compare
from common.options import make_parser, sizes, start
from common.report import READING, Report
from common.trial import OURS
from common.workloads import DTYPES


def run(name: str, options: argparse.Namespace, report: Report, clock: Clock | None = None) -> None:
    """Measure every case of one table."""
    size, dtype = sizes(options), DTYPES[options.dtype]
    full_name = f"{name}, {size.layers} layers, {options.dtype}"
    table = report.table(full_name, columns(options, READING))
    for case, step in token_step.steps(size, options.quick, dtype).items():
        contenders = {
            OURS: token_step.ours(step),
            "cat + SDPA": token_step.cat(step),
            "static buffer + SDPA": token_step.static(step),
        }
        compare(
            report,
            table,
            case,
            contenders,
            truth=partial(token_step.truth, step),
            rates=partial(report.share_of_reading, step.bytes),
            clock=clock,
        )


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__, gpu=True, dtype=True).parse_args()
    report = start(options)
    run("token step with cache", options, report)
    if options.device == "cuda":
        run("token step with cache, host's clock", options, report, host_clock)
    report.finish()


if __name__ == "__main__":
    main()
