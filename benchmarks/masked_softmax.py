"""``masked_softmax`` against the same thing in torch calls, at S=512.

Scores ``[8, 12, 512, 512]``; three such tensors (100 MB each in float32) in turn, milliseconds per
tensor. Everybody allocates the result, as an operator must; at this size most of that is page
faults, and a rival of three steps has them three times. Without a mask the scale is 1 and the rival
is ``softmax`` alone. GB/s count the visible scores that are read and the whole result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import masked_attn
from common.compare import columns, compare
from common.options import make_parser, sizes, start
from common.oracle import true_softmax
from common.report import READING
from common.timing import Contender
from common.trial import OURS
from common.visibility import Visibility
from common.workloads import DTYPES, Sizes, ragged_lengths

TENSORS = 3

Softmax = Callable[[Tensor], Tensor]


def cases(size: Sizes, length: int) -> dict[str, Visibility]:
    lengths = ragged_lengths(size.batch, length)
    return {
        f"ragged, S={length}": Visibility(size.batch, length, length, True, lengths, size.device),
        f"causal, S={length}": Visibility(size.batch, length, length, True, device=size.device),
        f"no mask, S={length}": Visibility(size.batch, length, length, device=size.device),
    }


def ours(seen: Visibility, scale: float) -> Softmax:
    return lambda scores: masked_attn.masked_softmax(scores, scale=scale, **seen.ours)


def stepwise(seen: Visibility, scale: float) -> Softmax:
    """Scale, ``where``, softmax."""
    mask = seen.dense
    return lambda scores: torch.where(mask, scores * scale, -torch.inf).softmax(-1)


def plain(scores: Tensor) -> Tensor:
    """Softmax alone."""
    return scores.softmax(-1)


def over_tensors(softmax: Softmax, tensors: list[Tensor]) -> Contender:
    def run() -> Tensor:
        for scores in tensors:
            result = softmax(scores)
        return result

    return Contender(run, calls=len(tensors))


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__, gpu=True, dtype=True).parse_args()
    report = start(options)
    size, length = sizes(options), 32 if options.quick else 512
    shape = (size.batch, size.heads, length, length)
    dtype = DTYPES[options.dtype]
    tensors = [torch.randn(shape, device=size.device).to(dtype) for _ in range(TENSORS)]
    name = f"masked_softmax, {options.dtype}, per tensor"
    table = report.table(name, columns(options, READING))
    for case, seen in cases(size, length).items():
        masked = seen.causal or seen.lengths is not None
        rival = "where + softmax" if masked else "softmax"
        scale = size.head_dim**-0.5 if masked else 1.0
        contenders = {
            OURS: over_tensors(ours(seen, scale), tensors),
            rival: over_tensors(stepwise(seen, scale) if masked else plain, tensors),
        }
        moved = dtype.itemsize * (size.heads * seen.pairs + tensors[0].numel())
        compare(
            report,
            table,
            case,
            contenders,
            truth=partial(true_softmax, seen, tensors[-1], scale),
            rates=partial(report.share_of_reading, moved),
            real_queries=seen.real_queries,
        )
    report.finish()


if __name__ == "__main__":
    main()
