"""One token step of attention with its cache (append and attend), over 12 layers.

GPT-2 124M shapes: batch 8, 12 heads of 64; milliseconds for all 12 layers. The rivals are
``DynamicCache`` (concatenates) and a static buffer as ``StaticCache`` has it, each with SDPA. GB/s
count the visible keys and values only, beside the read bandwidth of the machine.

``--grouped``: instead, heads that share keys and values (8/8, 32/8, 64/8 heads of 128, 2048
tokens), batches of one row over 12 layers and of eight rows over 2, beside SDPA that appends
nothing.

On a GPU a second table has the same by the host's clock, launches included.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from common import token_step
from common.clock import Clock, host_clock
from common.compare import columns, compare
from common.options import make_parser, sizes, start
from common.report import READING, Report
from common.trial import OURS
from common.workloads import DTYPES, GROUPED, QUICK


def run(
    name: str,
    steps: Mapping[str, token_step.TokenStep],
    options: argparse.Namespace,
    report: Report,
    clock: Clock | None = None,
) -> None:
    """Measure every case of one table."""
    layers = next(iter(steps.values())).sizes.layers
    full_name = f"{name}, {layers} layers, {options.dtype}"
    table = report.table(full_name, columns(options, READING))
    for case, step in steps.items():
        contenders = {OURS: token_step.ours(step)}
        if options.grouped:
            contenders["SDPA, no append"] = token_step.attend(step)
        else:
            contenders["cat + SDPA"] = token_step.cat(step)
        contenders["static buffer + SDPA"] = token_step.static(step)
        compare(
            report,
            table,
            case,
            contenders,
            truth=partial(token_step.truth, step),
            rates=partial(report.share_of_reading, step.bytes),
            clock=clock,
        )


def run_grouped(options: argparse.Namespace, report: Report) -> None:
    """Measure heads that share keys and values."""
    base = replace(QUICK if options.quick else GROUPED, device=options.device)
    for size in (base, replace(base, batch=8, layers=2)):
        steps = token_step.grouped_steps(size, options.quick, DTYPES[options.dtype])
        run(f"grouped heads, batch {size.batch}", steps, options, report)


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__, gpu=True, dtype=True)
    parser.add_argument("--grouped", action="store_true", help="heads that share keys and values")
    options = parser.parse_args()
    report = start(options)
    if options.grouped:
        run_grouped(options, report)
    else:
        steps = token_step.steps(sizes(options), options.quick, DTYPES[options.dtype])
        run("token step with cache", steps, options, report)
        if options.device == "cuda":
            run("token step with cache, host's clock", steps, options, report, host_clock)
    report.finish()


if __name__ == "__main__":
    main()
