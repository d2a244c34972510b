"""``masked_softmax`` against the same thing in torch calls, at S=512.

Scores ``[8, 12, 512, 512]``; three such tensors (100 MB each in float32) in turn, milliseconds per
tensor. Everybody allocates the result, as an operator must; at this size most of that is page
faults, and a rival of three steps has them three times. Without a mask the scale is 1 and the rival
is ``softmax`` alone. GB/s count the visible scores that are read and the whole result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common.agreement import agreement
from common.options import make_parser, sizes, start
from common.report import COMPARISON, READING, comparison
from common.timing import Contender, take_turns
from common.visibility import Visibility
from common.workloads import DTYPES, Sizes, ragged_lengths
from torch import Tensor

import masked_attn

TENSORS = 3

Softmax = Callable[[Tensor], Tensor]


def cases(size: Sizes, length: int) -> dict[str, Visibility]:
    lengths = ragged_lengths(size.batch, length)
    return {
        f"ragged, S={length}": Visibility(size.batch, length, length, True, lengths),
        f"causal, S={length}": Visibility(size.batch, length, length, True),
        f"no mask, S={length}": Visibility(size.batch, length, length),
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
    parser = make_parser(__doc__)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args()
    report = start(options)
    size, length = sizes(options), 32 if options.quick else 512
    shape = (size.batch, size.heads, length, length)
    tensors = [torch.randn(shape).to(DTYPES[options.dtype]) for _ in range(TENSORS)]
    name = f"masked_softmax, {options.dtype}, per tensor"
    table = report.table(name, COMPARISON + READING)
    for case, seen in cases(size, length).items():
        masked = seen.causal or seen.lengths is not None
        rival = "where + softmax" if masked else "softmax"
        scale = size.head_dim**-0.5 if masked else 1.0
        contenders = {
            "masked_attn": over_tensors(ours(seen, scale), tensors),
            rival: over_tensors(stepwise(seen, scale) if masked else plain, tensors),
        }
        check = agreement(seen.real_queries)
        times = take_turns(contenders, options.repeats, check)
        moved = tensors[0].element_size() * (size.heads * seen.pairs + tensors[0].numel())
        rates = report.share_of_reading(moved, times["masked_attn"].best)
        row = {"case": case, "rival": rival, **comparison(times["masked_attn"], times[rival])}
        table.add(row | rates)
    report.finish()


if __name__ == "__main__":
    main()
