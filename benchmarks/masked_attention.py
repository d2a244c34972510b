"""``masked_attention`` on whole prompts, against PyTorch's own attention.

GPT-2 124M shapes: batch 8, 12 heads of 64, tensors of 12 layers in turn; milliseconds per layer.
Ragged: prompts of S/8, 2 S/8, ..., S tokens, padded on the left. GFLOP/s count visible
(query, key) pairs only, beside the float32 matrix-product rate of the machine.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from common import prompt
from common.agreement import agreement
from common.options import make_parser, sizes, start
from common.report import COMPARISON, PRODUCTS, Report, Table, comparison
from common.timing import take_turns
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


def attentions(
    case: Case, seen: Visibility, sample: Layer, options: argparse.Namespace
) -> dict[str, prompt.Attention]:
    """Name -> attention; ours comes first."""
    found = {"masked_attn": prompt.ours(seen)}
    for rival in case.rivals:
        masked = rival == "SDPA, same mask"
        found[rival] = prompt.sdpa_with_mask(seen) if masked else prompt.sdpa(seen)
    if not (options.no_flex or options.quick):
        compiled = prompt.flex(seen, sample)
        if isinstance(compiled, str):
            print(f"FlexAttention is left out: {compiled}")
        else:
            found["FlexAttention, compiled"] = compiled
    if not options.no_eager:
        found["eager"] = prompt.eager(seen)
    return found


def run_case(
    case: Case, length: int, options: argparse.Namespace, table: Table, report: Report
) -> None:
    size = sizes(options)
    lengths = ragged_lengths(size.batch, length) if case.ragged else None
    seen = Visibility(size.batch, length, length, case.causal, lengths)
    layers = make_layers(size, length, DTYPES[options.dtype])
    contenders = {
        name: prompt.over_layers(attention, layers)
        for name, attention in attentions(case, seen, layers[0], options).items()
    }
    times = take_turns(contenders, options.repeats, agreement(seen.real_queries))
    ours = times.pop("masked_attn")
    for rival, other in times.items():
        row = {"case": f"{case.name}, S={length}", "rival": rival, **comparison(ours, other)}
        table.add(row | report.share_of_products(seen.flop(size), ours.best))


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--no-flex", action="store_true", help="leave FlexAttention out")
    parser.add_argument("--no-eager", action="store_true", help="leave the eager rival out (slow)")
    options = parser.parse_args()
    report = start(options)
    table = report.table(f"masked_attention, {options.dtype}, per layer", COMPARISON + PRODUCTS)
    for case in CASES:
        for length in sizes(options).lengths(case.lengths):
            run_case(case, length, options, table, report)
    report.finish()


if __name__ == "__main__":
    main()
