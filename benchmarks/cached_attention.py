"""One token step of attention with its cache (append and attend), over 12 layers.

GPT-2 124M shapes: batch 8, 12 heads of 64, float32; milliseconds for all 12 layers. The rivals are
``DynamicCache`` (concatenates) and a static buffer as ``StaticCache`` has it, each with SDPA. GB/s
count the visible keys and values only, beside the read bandwidth of the machine.
"""

from __future__ import annotations

import torch
from common import token_step
from common.agreement import agreement
from common.options import make_parser, sizes, start
from common.report import COMPARISON, READING, comparison
from common.timing import take_turns


@torch.inference_mode()
def main() -> None:
    options = make_parser(__doc__).parse_args()
    report = start(options)
    size = sizes(options)
    name = f"token step with cache, {size.layers} layers, float32"
    table = report.table(name, COMPARISON + READING)
    for case, step in token_step.steps(size, options.quick).items():
        contenders = {
            "masked_attn": token_step.ours(step),
            "cat + SDPA": token_step.cat(step),
            "static buffer + SDPA": token_step.static(step),
        }
        times = take_turns(contenders, options.repeats, agreement())
        ours = times.pop("masked_attn")
        for rival, other in times.items():
            row = {"case": case, "rival": rival, **comparison(ours, other)}
            table.add(row | report.share_of_reading(step.bytes, ours.best))
    report.finish()


if __name__ == "__main__":
    main()
