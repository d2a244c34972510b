"""Random cases of ``linear``, and its accuracy against the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from masked_attn import linear
from support import bounds, oracle
from support.accuracy import assert_accurate, assert_same_bits
from support.cases import DTYPES

# Of the input and of the weight.
DTYPE_PAIRS = (
    *((dtype, dtype) for dtype in DTYPES),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
)
ACTIVATIONS = ("gelu_tanh", "gelu", "silu", "relu")
LAYOUTS = ("plain", "rows apart", "other way", "neither")


@dataclass
class Layer:
    """The arguments of one call."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    transposed: bool = False
    activation: str | None = None
    multiplier: Tensor | None = None

    def call(self, rows: slice = slice(None)) -> Tensor:
        """Of some rows of the input's first dimension."""
        factors = None if self.multiplier is None else self.multiplier[rows]
        return self.on(self.x[rows], factors)

    def on(self, x: Tensor, multiplier: Tensor | None = None) -> Tensor:
        options: dict[str, Any] = {"transposed": self.transposed, "activation": self.activation}
        return linear(x, self.weight, self.bias, **options, multiplier=multiplier)

    @property
    def matrix(self) -> Tensor:
        """``[outputs, inputs]``"""
        return self.weight.t() if self.transposed else self.weight

    def oracle_arguments(self) -> tuple[Any, ...]:
        return self.x, self.matrix, self.bias, self.activation, self.multiplier


def strided(rows: int, columns: int, layout: str, dtype: torch.dtype) -> Tensor:
    """``[rows, columns]`` of any memory layout."""
    wide = torch.randn(2 * rows, 2 * columns).to(dtype)
    if layout == "plain":
        return wide[:rows, :columns].contiguous()
    if layout == "rows apart":
        return wide[::2, :columns]
    if layout == "other way":
        return wide[:rows, :columns].t().contiguous().t()
    return wide[::2, ::2]


def make_layer(
    rows: int,
    inputs: int,
    outputs: int,
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32),
    *,
    transposed: bool = False,
    bias: bool = True,
    activation: str | None = None,
    multiplier: bool = False,
    layout: str = "plain",
    device: torch.device | str = "cpu",
) -> Layer:
    sizes = (inputs, outputs) if transposed else (outputs, inputs)
    return Layer(
        strided(rows, inputs, layout, dtypes[0]).to(device),
        # A copy to another device makes the memory dense; on the CPU nothing is copied.
        strided(*sizes, layout, dtypes[1]).to(device),
        torch.randn(2 * outputs).to(device, dtypes[1])[::2] if bias else None,
        transposed,
        activation,
        strided(rows, outputs, layout, dtypes[0]).to(device) if multiplier else None,
    )


def check_accuracy(layer: Layer) -> None:
    x, matrix, bias, activation, multiplier = layer.oracle_arguments()
    ours = layer.call()
    assert ours.dtype == x.dtype and ours.is_contiguous()
    assert ours.shape == (*x.shape[:-1], matrix.shape[0])
    if x.is_cuda:  # torch's own product, which may add up halves in halves, and its functions
        assert_same_bits(ours, of_torch(layer))
        return
    truth = oracle.linear(x, matrix, bias, activation, multiplier)
    bound = bounds.linear(x, matrix, bias, activation, multiplier)
    assert_accurate(ours, truth, bound, name=f"linear {activation or ''}".strip())


def of_torch(layer: Layer) -> Tensor:
    x, matrix, bias, activation, multiplier = layer.oracle_arguments()
    functional = torch.nn.functional
    bias = None if bias is None else bias.to(x.dtype)
    out = functional.linear(x, matrix.to(x.dtype), bias)
    if activation is not None:
        kind = {"gelu": "none", "gelu_tanh": "tanh"}.get(activation)
        out = (
            functional.gelu(out, approximate=kind) if kind else getattr(functional, activation)(out)
        )
    return out if multiplier is None else out * multiplier
