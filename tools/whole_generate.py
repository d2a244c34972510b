"""Does a whole generate give every row the bits of its prompt alone? Counts the rows that differ.

    python tools/whole_generate.py --rows 130 --embed 768 --heads 12 --vocab 50257
    MASKED_ATTN_ISA=scalar python tools/whole_generate.py

A GPT-2 of random weights generates for each prompt alone, then for batches of up to 40 of them: in
other orders, with more pads, with other numbers of threads. The logits of every step are compared.
Exits with 1 where a row differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "python"))

from hf import whole
from hf.models import gpt2

from masked_attn import _C
from masked_attn.hf import patch

LONGEST = 300


def main() -> int:
    options = arguments()
    rows = sorted(set(whole.LENGTHS))
    lengths = (rows * (options.rows // len(rows) + 1))[: options.rows]
    unequal = False
    for name in options.dtypes:
        model = gpt2(
            options.layers,
            options.heads,
            options.embed,
            n_inner=options.inner,
            vocab_size=options.vocab,
            n_positions=2 * LONGEST,
            std=0.8 / options.embed**0.5,
        )
        model = patch(model.to(getattr(torch, name)), fast_linear=not options.stock_linear)
        compared, lines = whole.compare(model, lengths, options.threads)
        count = sum(int(line.split()[0]) for line in lines)
        print(f"{_C.selected_instruction_set()} {name}: {compared} rows, {count} unequal")
        for line in lines:
            print(f"  {line}")
        unequal = unequal or bool(lines)
    return int(unequal)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40, help="prompts, at least 10")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--embed", type=int, default=36)
    parser.add_argument("--inner", type=int, help="width of the MLP; else 4 times embed")
    parser.add_argument("--vocab", type=int, default=101)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--stock-linear", action="store_true", help="with fast_linear=False")
    dtypes = ["float32", "bfloat16", "float16", "float64"]
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=dtypes)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
