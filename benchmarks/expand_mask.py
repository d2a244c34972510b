"""``expand_mask`` against ``eager_mask`` of transformers: 0/1 padding mask -> additive mask.

Batch 8, left-padded prompts of S/8, 2 S/8, ..., S tokens, causal, filled with the smallest number
of the dtype, as transformers does. GB/s count the result that is written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers.masking_utils import eager_mask

import masked_attn
from common.compare import columns, compare
from common.options import make_parser, sizes, start
from common.oracle import true_mask
from common.report import READING
from common.timing import Contender
from common.trial import OURS
from common.visibility import Visibility
from common.workloads import DTYPES, ragged_lengths

CALLS = 10


def ours(mask: Tensor, dtype: torch.dtype) -> Tensor:
    fill = torch.finfo(dtype).min
    return masked_attn.expand_mask(mask, dtype=dtype, causal=True, fill=fill)


def theirs(mask: Tensor, dtype: torch.dtype) -> Tensor:
    batch, length = mask.shape
    result: Tensor = eager_mask(
        batch_size=batch,
        q_length=length,
        kv_length=length,
        attention_mask=mask,
        dtype=dtype,
        device=mask.device,
    )
    return result


def repeated(
    expand: Callable[[Tensor, torch.dtype], Tensor], mask: Tensor, dtype: torch.dtype
) -> Contender:
    """Several calls make one turn: a single one is short."""

    def run() -> Tensor:
        for _ in range(CALLS):
            result = expand(mask, dtype)
        return result

    return Contender(run, calls=CALLS)


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__, gpu=True).parse_args()
    report = start(options)
    size = sizes(options)
    table = report.table("expand_mask, left padding and causal", columns(options, READING))
    for name in ("float32", "bfloat16"):
        dtype = DTYPES[name]
        for length in size.lengths((512, 1024)):
            lengths = ragged_lengths(size.batch, length)
            seen = Visibility(size.batch, length, length, True, lengths, size.device)
            assert seen.key_mask is not None
            contenders = {
                OURS: repeated(ours, seen.key_mask, dtype),
                "eager_mask": repeated(theirs, seen.key_mask, dtype),
            }
            written = size.batch * length * length * dtype.itemsize
            compare(
                report,
                table,
                f"{name}, S={length}",
                contenders,
                truth=partial(true_mask, seen.key_mask, dtype),
                rates=partial(report.share_of_reading, written),
                real_queries=seen.real_queries,
            )
    report.finish()


if __name__ == "__main__":
    main()
