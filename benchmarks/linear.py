"""Linear layers of a token step: few rows against the weights of 12 layers and lm_head, GPT-2 124M.

Milliseconds for all layers (48 products, ``Conv1D`` weights ``[inputs, outputs]``), and for lm_head
(``[50257, 768]``). The rivals are torch's own product, and oneDNN with weights that were packed
before the timing: a second copy of each weight. GB/s count every weight once, beside the read
bandwidth of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear

from common.compare import columns, compare
from common.options import make_parser, sizes, start
from common.report import READING, Report
from common.timing import Contender
from common.trial import OURS
from common.workloads import DTYPES, Sizes
from masked_attn import linear as masked_linear

Product = Callable[[Tensor], Tensor]
Weights = list[tuple[Tensor, Tensor]]  # (weight [inputs, outputs], bias) of every product

PACKED = "oneDNN, prepacked"


def layer_weights(size: Sizes, dtype: torch.dtype) -> Weights:
    """The four ``Conv1D`` of each layer."""
    width = size.heads * size.head_dim
    shapes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    return [
        (torch.randn(shape).mul(0.02).to(dtype), torch.randn(shape[1]).to(dtype))
        for _ in range(size.layers)
        for shape in shapes
    ]


def packed(weight: Tensor, bias: Tensor | None, rows: int) -> Product:
    """OneDNN with a copy of ``weight`` [outputs, inputs] in its own order."""
    copy = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, copy, bias, "none", [], "")


def layer_products(weights: Weights, rows: int) -> dict[str, list[Product]]:
    return {
        OURS: [partial(ours, weight=w, bias=b) for w, b in weights],
        "torch.addmm": [partial(addmm, weight=w, bias=b) for w, b in weights],
        PACKED: [packed(w.t(), b, rows) for w, b in weights],
    }


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return masked_linear(x, weight, bias, transposed=True)


def addmm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, x, weight)


def head_products(weight: Tensor, rows: int) -> dict[str, list[Product]]:
    return {
        OURS: [lambda x: masked_linear(x, weight)],
        "F.linear": [lambda x: linear(x, weight)],
        PACKED: [packed(weight, None, rows)],
    }


def contender(products: list[Product], inputs: dict[int, Tensor], widths: list[int]) -> Contender:
    """All products one after the other, each with the input of its width."""

    def run() -> Tensor:
        for product, width in zip(products, widths, strict=True):
            result = product(inputs[width])
        return result

    return Contender(run)


def measure(report: Report, size: Sizes, dtype: torch.dtype, rows: tuple[int, ...]) -> None:
    weights = layer_weights(size, dtype)
    widths = [weight.shape[0] for weight, _ in weights]
    vocabulary = 97 if report.options.quick else 50257
    head = torch.randn(vocabulary, widths[0]).mul(0.02).to(dtype)
    layer_bytes = sum(weight.nbytes for weight, _ in weights)
    name = f"linear layers of a token step, {report.options.dtype}"
    table = report.table(name, columns(report.options, READING))
    for count in rows:
        inputs = {width: torch.randn(count, width).to(dtype) for width in sorted(set(widths))}
        for case, products, used, size_in_bytes in (
            ("layers", layer_products(weights, count), widths, layer_bytes),
            ("lm_head", head_products(head, count), widths[:1], head.nbytes),
        ):
            compare(
                report,
                table,
                f"{case}, {count} rows",
                {key: contender(value, inputs, used) for key, value in products.items()},
                truth=lambda: torch.empty(0),  # asked for on a GPU only
                rates=partial(report.share_of_reading, size_in_bytes),
            )


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__, dtype=True)
    parser.add_argument("--rows", type=int, nargs="+", default=(1, 8, 16, 32), help="1 to 32")
    options = parser.parse_args()
    report = start(options)
    rows = (2,) if options.quick else tuple(options.rows)
    measure(report, sizes(options), DTYPES[options.dtype], rows)
    report.finish()


if __name__ == "__main__":
    main()
