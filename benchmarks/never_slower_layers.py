"""Is ours ever slower than stock code? Linear layers, steps and prompts of a patched GPT-2.

Linear layers are those of one block of GPT-2 124M and a quarter of its lm_head, each in turn, for
both layouts of a weight, against ``addmm`` and ``F.linear``. A step is one token for each of
``rows`` sequences that hold 16 tokens, in a GPT-2 of ``--layers`` layers of that width; a prompt is
a batch of ragged prompts in it. float32 and bfloat16. Cells below 1.0 are listed at the end.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel, GPT2Model

import masked_attn
from common.agreement import agreement
from common.options import make_parser, start
from common.report import TIMES, Chart, Column, Report, Table, comparison
from common.timing import Contender, take_turns
from common.trial import OURS
from common.workloads import DTYPES

Check = Callable[[Mapping[str, Tensor]], None] | None
ROWS = (1, 2, 4, 8, 16, 32, 64)
STOCK = "stock"
HELD = 16  # tokens of each sequence before a step
STEPS = 4  # of a turn
# What the installed transformers calls the cache of GPT-2.
CACHE = "cache" if "cache" in inspect.signature(GPT2Model.forward).parameters else "past_key_values"
COLUMNS = (
    Column("dtype", "dtype", width=8),
    Column("what", "what", width=24),
    Column("rows", "rows", width=4),
    *TIMES,
)
CHART = Chart(("dtype", "what", "rows"))


def layer_cells(
    options: argparse.Namespace, dtype: torch.dtype, rows: int
) -> list[tuple[str, Contender, Contender]]:
    """Name, ours and torch's product, for every kind of layer."""
    width = 48 if options.quick else 768
    shapes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    cells = []
    for inputs, outputs in (*shapes, (width, 200 if options.quick else 12564)):
        x = torch.randn(rows, inputs).to(dtype)
        weight = torch.randn(inputs, outputs).mul(0.02).to(dtype)
        bias = torch.randn(outputs).to(dtype)
        turned = weight.t().contiguous()
        cells.append(
            (
                f"[K, N] = [{inputs}, {outputs}]",
                Contender(partial(masked_attn.linear, x, weight, bias, transposed=True)),
                Contender(partial(torch.addmm, bias, x, weight)),
            )
        )
        cells.append(
            (
                f"[N, K] = [{outputs}, {inputs}]",
                Contender(partial(masked_attn.linear, x, turned, bias)),
                Contender(partial(linear, x, turned, bias)),
            )
        )
    return cells


def models(options: argparse.Namespace, dtype: torch.dtype) -> dict[str, nn.Module]:
    """A stock model and a patched one."""
    small = {"n_embd": 32, "n_head": 2, "vocab_size": 64}
    config = GPT2Config(n_layer=options.layers, **(small if options.quick else {}))
    pair = {name: GPT2LMHeadModel(config).eval().to(dtype) for name in (OURS, STOCK)}
    pair[STOCK].load_state_dict(pair[OURS].state_dict())
    masked_attn.patch(pair[OURS])
    return pair


def step(model: nn.Module, ours: bool, rows: int) -> Contender:
    """Some steps after a short prompt, which is not timed."""
    ids = torch.randint(1, 60, (rows, HELD))
    held: dict[str, object] = {}

    def prepare() -> None:
        cache = masked_attn.KVCache() if ours else DynamicCache(config=model.config)
        model(ids, **{CACHE: cache})
        held[CACHE] = cache

    def run() -> Tensor:
        for _ in range(STEPS):
            logits: Tensor = model(ids[:, -1:], **held).logits
        return logits

    return Contender(run, prepare, calls=STEPS)


def prompt(model: nn.Module, rows: int) -> Contender:
    """Prompts of 16, 32, ... tokens, padded on the left; logits of the last token."""
    lengths = torch.arange(1, rows + 1) * 16
    mask = masked_attn.masks.padding_mask(lengths)
    ids = torch.randint(1, 60, mask.shape)
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}

    def run() -> Tensor:
        logits: Tensor = model(**inputs, logits_to_keep=1).logits
        return logits

    return Contender(run)


def measure(report: Report, table: Table, dtype: str) -> None:
    options = report.options

    def add(what: str, rows: int, ours: Contender, stock: Contender, check: Check = None) -> None:
        times = take_turns({OURS: ours, STOCK: stock}, options.repeats, check)
        cells = comparison(times[OURS], times[STOCK])
        table.add({"dtype": dtype, "what": what, "rows": rows, **cells})

    for rows in options.rows:
        for what, ours, stock in layer_cells(options, DTYPES[dtype], rows):
            add(what, rows, ours, stock, agreement(None))
    pair = models(options, DTYPES[dtype])
    for rows in options.rows:
        add("a step", rows, step(pair[OURS], True, rows), step(pair[STOCK], False, rows))
    for rows in options.prompts:
        add("a prompt", rows, prompt(pair[OURS], rows), prompt(pair[STOCK], rows))


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    add("--rows", nargs="+", type=int, default=list(ROWS))
    add("--prompts", nargs="+", type=int, default=[1, 4, 16], help="rows of a batch of prompts")
    add("--layers", type=int, default=2)
    options = parser.parse_args()
    if options.quick:
        options.rows, options.prompts = [2], [2]
    report = start(options)
    table = report.table("linear layers, steps and prompts against stock code", COLUMNS, CHART)
    for dtype in options.dtypes:
        measure(report, table, dtype)
    report.list_slower(table)
    report.finish()


if __name__ == "__main__":
    main()
