"""``masked_attention`` on whole prompts, against PyTorch's own attention.

GPT-2 124M shapes: batch 8, 12 heads of 64, tensors of 12 layers in turn; milliseconds per layer.
Ragged: prompts of S/8, 2 S/8, ..., S tokens, padded on the left. GFLOP/s count visible
(query, key) pairs only, beside the float32 matrix-product rate of the machine.

On a GPU also SDPA by each backend and attention without padding on packed rows, and the rate of
matrix products is that of the same dtype. A block mask of FlexAttention is built outside the
timing, or (new block mask) inside, once for all layers.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial

import torch

from common import prompt
from common.compare import columns, compare
from common.flex import flex
from common.gpu_prompt import gpu_rivals
from common.options import make_parser, sizes, start
from common.oracle import true_attention
from common.report import PRODUCTS, Report, Table
from common.timing import Contender
from common.trial import OURS
from common.visibility import Visibility
from common.workloads import DTYPES, Layer, make_layers, ragged_lengths


@dataclass(frozen=True)
class Case:
    """One kind of prompt; ``rivals`` of PyTorch's attention, besides FlexAttention and eager."""

    name: str
    causal: bool
    ragged: bool
    lengths: tuple[int, ...]
    rivals: tuple[str, ...]


CASES = (
    Case("ragged", True, True, (512, 1024), ("SDPA, same mask",)),
    Case("causal", True, False, (512, 1024), ("SDPA, is_causal", "SDPA, same mask")),
    Case("full", False, False, (1024,), ("SDPA, no mask",)),
)


def contenders(
    case: Case, seen: Visibility, layers: list[Layer], options: argparse.Namespace
) -> dict[str, Contender | str]:
    """Name -> what to run, or why it does not run; ours comes first."""
    attentions = {OURS: prompt.ours(seen)}
    for rival in case.rivals:
        masked = rival == "SDPA, same mask"
        attentions[rival] = prompt.sdpa_with_mask(seen) if masked else prompt.sdpa(seen)
    found: dict[str, Contender | str] = {
        name: prompt.over_layers(attention, layers) for name, attention in attentions.items()
    }
    on_gpu = options.device == "cuda"
    if on_gpu:
        found |= gpu_rivals(seen, layers)
    if not (options.no_flex or options.quick):
        found |= flex(seen, layers, new_mask=on_gpu)
    if not options.no_eager:
        found["eager"] = prompt.over_layers(prompt.eager(seen), layers)
    return found


def run_case(
    case: Case, length: int, options: argparse.Namespace, table: Table, report: Report
) -> None:
    size = sizes(options)
    lengths = ragged_lengths(size.batch, length) if case.ragged else None
    seen = Visibility(size.batch, length, length, case.causal, lengths, size.device)
    layers = make_layers(size, length, DTYPES[options.dtype])
    compare(
        report,
        table,
        f"{case.name}, S={length}",
        contenders(case, seen, layers, options),
        truth=partial(true_attention, seen, layers[-1]),
        rates=partial(report.share_of_products, seen.flop(size)),
        real_queries=seen.real_queries,
    )


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__, gpu=True, dtype=True)
    parser.add_argument("--no-flex", action="store_true", help="leave FlexAttention out")
    parser.add_argument("--no-eager", action="store_true", help="leave the eager rival out (slow)")
    options = parser.parse_args()
    report = start(options)
    name = f"masked_attention, {options.dtype}, per layer"
    table = report.table(name, columns(options, PRODUCTS))
    for case in CASES:
        lengths = case.lengths if options.device == "cpu" else (512, 1024)
        for length in sizes(options).lengths(lengths):
            run_case(case, length, options, table, report)
    report.finish()


if __name__ == "__main__":
    main()
