"""A program: every operator against the oracle, on the instruction set of MASKED_ATTN_ISA.

Prints the name of the set that was used. It is chosen once per process, hence a program.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import masked_attn
from masked_attn import _C
from support import oracle
from support.accuracy import (
    assert_attention_accurate,
    assert_same_bits,
    assert_softmax_accurate,
)
from support.cached import check_step, make_step
from support.cases import DTYPES, key_mask, make_inputs
from support.linear import check_accuracy, make_layer
from support.oracle import Masks
from support.padding import make_row, padded, real_part
from support.scores import KINDS, score_options


def check_dtype(dtype: torch.dtype) -> None:
    for queries, keys, dims in (
        (1, 65, (64, 64)),
        (8, 33, (15, 80)),
        (33, 129, (80, 33)),
        (70, 70, (1, 7)),
    ):
        for padding, causal in (("left", True), ("holes", False)):
            inputs = make_inputs(
                heads=(4, 2),
                queries=queries,
                keys=keys,
                dims=dims,
                dtype=dtype,
                padding=padding,
                causal=causal,
            )
            pair = inputs.call(masked_attn.masked_attention, return_logsumexp=True)
            assert_attention_accurate(*pair, *inputs.tensors(), inputs.masks)
            for kind in KINDS:
                inputs.masks.extra = score_options(kind, 2, 4)
                pair = inputs.call(masked_attn.masked_attention, return_logsumexp=True)
                assert_attention_accurate(*pair, *inputs.tensors(), inputs.masks)
            inputs.masks.extra = {}
            scores = torch.randn(2, 3, queries, keys).to(dtype)
            weights = masked_attn.masked_softmax(scores, **inputs.masks.kwargs())
            assert_softmax_accurate(weights, scores, inputs.masks)
        masks = Masks(key_mask("left", 2, keys + queries))
        check_step(make_step(queries=queries, position=keys, dims=dims, dtype=dtype, masks=masks))
        masks.extra = score_options("all", 2, 2)
        check_step(make_step(queries=queries, position=keys, dims=dims, dtype=dtype, masks=masks))
    for length in (5, 9, 65, 130):
        row = make_row(length, dtype=dtype)
        alone = row.inputs(causal=True).call(masked_attn.masked_attention)
        wide = padded(row, 37, 3, causal=True).call(masked_attn.masked_attention)
        assert_same_bits(real_part(wide, row, 37), alone)
        for kind in KINDS:
            options = score_options(kind, 1, 2)
            alone = row.inputs(causal=True).call(masked_attn.masked_attention, **options)
            wide = padded(row, 37, 3, causal=True).call(masked_attn.masked_attention, **options)
            assert_same_bits(real_part(wide, row, 37), alone)
    for transposed in (False, True):
        with_all = {"transposed": transposed, "activation": "gelu_tanh", "multiplier": True}
        layer = make_layer(50, 300, 33, (dtype, dtype), **with_all)
        check_accuracy(layer)
        batch = layer.call()
        for rows in (slice(0, 1), slice(3, 7), slice(9, 50)):
            assert_same_bits(layer.call(rows), batch[rows])
    mask = torch.ones(2, 70, dtype=torch.int64)
    mask[0, :9] = 0
    ours = masked_attn.expand_mask(mask, dtype=dtype, causal=True)
    seen = oracle.seen_keys((2, 1, 70, 70), Masks(key_mask=mask != 0, causal=True))
    assert torch.equal(ours == 0, torch.from_numpy(seen))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in DTYPES:
        check_dtype(each)
    print(_C.selected_instruction_set())
