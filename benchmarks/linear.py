"""Linear layers, for 1 to 4096 rows of input: those of GPT-2 124M, and larger ones.

Milliseconds for all 12 layers (48 products in turn, ``Conv1D`` weights ``[inputs, outputs]``), for
lm_head (``[50257, 768]``), and with ``--large`` for two weights ``[4096, 11008]`` of a larger
model. The rivals are torch's own product (MKL), and oneDNN with weights that were packed before the
timing: a second copy of each weight. torch's ``brgemm`` is not among them: Python reaches it only
through what torch.compile generates. GB/s count every weight once, beside the read bandwidth of the
machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear

import masked_attn
from common.compare import columns, compare
from common.options import make_parser, sizes, start
from common.report import READING, Report
from common.timing import Contender
from common.trial import OURS, reason
from common.workloads import DTYPES, Sizes

Product = Callable[[Tensor], Tensor]
Weights = list[tuple[Tensor, Tensor]]  # (weight [inputs, outputs], bias) of every product

PACKED = "oneDNN, prepacked"
ROWS = (1, 2, 4, 8, 16, 32, 64, 256, 2304)
MOST_ROWS_OF_HEAD = 256  # a model asks it for the last token of each sequence


def layer_weights(size: Sizes, dtype: torch.dtype) -> Weights:
    """The four ``Conv1D`` of each layer."""
    width = size.heads * size.head_dim
    shapes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    return [
        (torch.randn(shape).mul(0.02).to(dtype), torch.randn(shape[1]).to(dtype))
        for _ in range(size.layers)
        for shape in shapes
    ]


def large_weights(quick: bool, dtype: torch.dtype) -> Weights:
    """Two of the largest of a layer of Llama 2 7B, so that no cache holds one."""
    shape = (48, 96) if quick else (4096, 11008)
    return [
        (torch.randn(shape).mul(0.02).to(dtype), torch.randn(shape[1]).to(dtype)) for _ in range(2)
    ]


def size_of(weights: Weights) -> int:
    """Bytes of all weights."""
    return sum(weight.nbytes for weight, _ in weights)


def packed(weight: Tensor, bias: Tensor | None, rows: int) -> Product:
    """OneDNN with a copy of ``weight`` [outputs, inputs] in its own order."""
    copy = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, copy, bias, "none", [], "")


def all_packed(weights: list[tuple[Tensor, Tensor | None]], rows: int) -> list[Product] | str:
    """OneDNN with copies of all weights ``[outputs, inputs]``, or why it does not run."""
    try:
        return [packed(weight, bias, rows) for weight, bias in weights]
    except RuntimeError as error:  # bfloat16 needs AVX-512
        return reason(error)


def layer_products(weights: Weights, rows: int) -> dict[str, list[Product] | str]:
    return {
        OURS: [partial(ours, weight=w, bias=b) for w, b in weights],
        "torch.addmm": [partial(addmm, weight=w, bias=b) for w, b in weights],
        PACKED: all_packed([(w.t(), b) for w, b in weights], rows),
    }


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return masked_attn.linear(x, weight, bias, transposed=True)


def addmm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, x, weight)


def head_products(weight: Tensor, rows: int) -> dict[str, list[Product] | str]:
    return {
        OURS: [lambda x: masked_attn.linear(x, weight)],
        "F.linear": [lambda x: linear(x, weight)],
        PACKED: all_packed([(weight, None)], rows),
    }


def contender(
    products: list[Product] | str, inputs: dict[int, Tensor], widths: list[int]
) -> Contender | str:
    """All products one after the other, each with the input of its width."""

    if isinstance(products, str):
        return products

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
    large = large_weights(report.options.quick, dtype) if report.options.large else []
    large_widths = [weight.shape[0] for weight, _ in large]
    table = report.table(f"linear layers, {report.options.dtype}", columns(report.options, READING))
    for count in rows:
        used = sorted({*widths, *large_widths})
        inputs = {width: torch.randn(count, width).to(dtype) for width in used}
        cases = [("layers", layer_products(weights, count), widths, size_of(weights))]
        if count <= MOST_ROWS_OF_HEAD:
            cases.append(("lm_head", head_products(head, count), widths[:1], head.nbytes))
        if large:
            cases.append(("large", layer_products(large, count), large_widths, size_of(large)))
        for case, products, used, size_in_bytes in cases:
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
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows of the input")
    parser.add_argument("--large", action="store_true", help="weights [4096, 11008], too")
    options = parser.parse_args()
    report = start(options)
    rows = (2,) if options.quick else tuple(options.rows)
    measure(report, sizes(options), DTYPES[options.dtype], rows)
    report.finish()


if __name__ == "__main__":
    main()
