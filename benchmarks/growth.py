"""How the cost of ``masked_attention`` grows with length and shrinks with padding, against SDPA.

GPT-2 124M shapes: batch 8, 12 heads of 64, float32, causal; milliseconds per layer. SDPA gets the
same rule as a boolean mask, and ``is_causal`` where there is no padding.
"""

from __future__ import annotations

import argparse

import torch

from common import prompt
from common.agreement import agreement
from common.options import make_parser, sizes, start
from common.report import PRODUCTS, TIMES, Chart, Column, Report, Row, comparison
from common.timing import Times, take_turns
from common.visibility import Visibility
from common.workloads import Layer, make_layers, ragged_lengths

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
PADDING = (0, 25, 50, 75, 90)


def layer_count(length: int, layers: int) -> int:
    """Layers whose tensors are rotated: fewer of the long ones, which no cache holds anyway."""
    return max(1, min(layers, 4096 // length))


def measure(seen: Visibility, layers: list[Layer], repeats: int) -> tuple[Times, Times]:
    """Times of ours and of SDPA."""
    contenders = {
        "masked_attn": prompt.over_layers(prompt.ours(seen), layers),
        "SDPA": prompt.over_layers(prompt.sdpa(seen), layers),
    }
    times = take_turns(contenders, repeats, agreement(seen.real_queries))
    return times["masked_attn"], times["SDPA"]


def by_length(options: argparse.Namespace, report: Report) -> None:
    size = sizes(options)
    columns = (Column("length", "S", width=4), *TIMES, *PRODUCTS)
    chart = Chart(labels=("length",), lines=True, doubling=True)
    table = report.table("length, 44 % ragged left padding, causal", columns, chart)
    for length in size.lengths(LENGTHS):
        lengths = ragged_lengths(size.batch, length)
        seen = Visibility(size.batch, length, length, True, lengths)
        layers = make_layers(size, length, count=layer_count(length, size.layers))
        ours, rival = measure(seen, layers, options.repeats)
        row: Row = {"length": length, **comparison(ours, rival)}
        table.add(row | report.share_of_products(seen.flop(size), ours.best))


def by_padding(options: argparse.Namespace, report: Report) -> None:
    size, length = sizes(options), 32 if options.quick else 1024
    columns = (
        Column("padding_percent", "padding %"),
        *TIMES,
        Column("ours_of_unpadded", "ours/unpadded"),
        Column("rival_of_unpadded", "rival/unpadded"),
        *PRODUCTS,
    )
    values = ("ours_best_ms", "rival_best_ms")
    chart = Chart(("padding_percent",), values, lines=True, title="milliseconds per layer")
    table = report.table(f"padding, the same in every row, S={length}, causal", columns, chart)
    layers = make_layers(size, length, count=layer_count(length, size.layers))
    first: tuple[float, float] | None = None
    for percent in PADDING:
        real = max(1, round(length * (100 - percent) / 100))
        lengths = (real,) * size.batch if percent else None
        seen = Visibility(size.batch, length, length, True, lengths)
        ours, rival = measure(seen, layers, options.repeats)
        first = first or (ours.best, rival.best)
        row: Row = {"padding_percent": percent, **comparison(ours, rival)}
        row["ours_of_unpadded"] = ours.best / first[0]
        row["rival_of_unpadded"] = rival.best / first[1]
        table.add(row | report.share_of_products(seen.flop(size), ours.best))


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__, repeats=5).parse_args()
    report = start(options)
    by_length(options, report)
    by_padding(options, report)
    report.finish()


if __name__ == "__main__":
    main()
