"""One linear layer in the place of stock's: the same products, and stock code where it must be."""

from __future__ import annotations

import copy

import pytest
import torch
from support.accuracy import assert_same_bits
from support.calls import CallCounter
from torch import nn

pytest.importorskip("transformers")

from transformers.pytorch_utils import Conv1D

from masked_attn.hf.layers.linear import FastForward

pytestmark = pytest.mark.integration

INPUTS, OUTPUTS = 96, 70
KINDS = pytest.mark.parametrize("kind", ["conv1d", "linear", "linear-bias"])
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


def pair(kind, dtype=torch.float32):
    """A stock layer and the fast one that shares its weights."""
    stock = Conv1D(OUTPUTS, INPUTS) if kind == "conv1d" else nn.Linear(INPUTS, OUTPUTS)
    if kind == "linear":
        stock.bias = None
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    stock.to(dtype)
    fast = copy.copy(stock)
    fast.__dict__ = dict(stock.__dict__)  # with the same dicts of parameters
    fast.__dict__["forward"] = FastForward(fast, None)
    return stock, fast


def run(layer, x):
    """How often the operator ran, and the result."""
    with CallCounter() as calls:
        out = layer(x)
    return calls["linear"], out


@KINDS
@DTYPES
@torch.no_grad()
def test_any_number_of_rows(kind, dtype):
    stock, fast = pair(kind, dtype)
    for rows in (*range(41), 100, 333):
        x = torch.randn(rows, 1, INPUTS).to(dtype)
        calls, found = run(fast, x)
        assert calls == 1, rows
        expected = stock(x)
        assert found.dtype == dtype and found.shape == expected.shape
        step = torch.finfo(dtype).eps
        torch.testing.assert_close(found, expected, atol=256 * step, rtol=2 * step)


@KINDS
@DTYPES
@torch.no_grad()
def test_a_row_has_the_same_bits_in_every_batch(kind, dtype):
    _, fast = pair(kind, dtype)
    x = torch.randn(200, INPUTS).to(dtype)
    expected = fast(x)
    for rows in (*range(1, 34), 63, 64, 65, 130):
        assert_same_bits(fast(x[-rows:]), expected[-rows:])
        assert_same_bits(fast(x[None, :rows]), expected[None, :rows])


@torch.no_grad()
def test_the_last_position_of_every_prompt():
    """``generate`` asks lm_head for a view whose rows lie apart."""
    stock, fast = pair("linear")
    hidden = torch.randn(3, 20, INPUTS)
    calls, found = run(fast, hidden[:, -1:])
    assert calls == 1
    torch.testing.assert_close(found, stock(hidden)[:, -1:])


@pytest.mark.parametrize(
    ("kind", "wanting"),
    [("conv1d", "x"), ("conv1d", "weight"), ("conv1d", "bias"), ("linear", "weight")],
)
def test_gradients_run_stock_code(kind, wanting):
    stock, fast = pair(kind)
    tensors = {"x": torch.randn(3, INPUTS), **dict(stock.named_parameters())}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == wanting)
    gradients = []
    for layer in (fast, stock):
        calls, out = run(layer, tensors["x"])
        assert calls == 0
        gradients.append(torch.autograd.grad(out.square().sum(), tensors[wanting])[0])
    assert_same_bits(*gradients)
    with torch.no_grad():
        assert run(fast, tensors["x"])[0] == 1
    tensors[wanting].requires_grad_(False)
    assert run(fast, tensors["x"])[0] == 1


class Doubled(torch.Tensor):
    """Multiplies by itself, as the weights of quantisation libraries do: here, twice."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        products = (torch.addmm, nn.functional.linear)
        return out.as_subclass(torch.Tensor) * 2 if func in products else out


@KINDS
@torch.no_grad()
def test_a_weight_with_products_of_its_own_keeps_them(kind):
    stock, fast = pair(kind)
    x, expected = torch.randn(3, INPUTS), stock.weight.detach().clone()
    plain = stock(x)
    stock.weight = nn.Parameter(expected.as_subclass(Doubled))
    calls, found = run(fast, x)
    assert calls == 0
    torch.testing.assert_close(found, 2 * plain)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float64, torch.long], ids=str)
@torch.no_grad()
def test_other_dtypes_raise_as_in_stock(kind, dtype):
    stock, fast = pair(kind)
    x = torch.ones(3, INPUTS, dtype=dtype)
    with pytest.raises(RuntimeError) as theirs:
        stock(x)
    with pytest.raises(RuntimeError) as ours:
        fast(x)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@torch.no_grad()
def test_a_sparse_weight_runs_stock_code():
    stock, fast = pair("linear-bias")
    x = torch.randn(3, INPUTS)
    expected = stock(x)
    stock.weight = nn.Parameter(stock.weight.to_sparse_csr())
    calls, found = run(fast, x)
    assert calls == 0
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@KINDS
@torch.no_grad()
def test_another_device_runs_stock_code(kind):
    _, fast = pair(kind)
    calls, found = run(fast.to("meta"), torch.randn(3, INPUTS, device="meta"))
    assert calls == 0 and found.shape == (3, OUTPUTS)


@KINDS
@torch.no_grad()
def test_autocast_gives_the_dtype_of_stock(kind):
    stock, fast = pair(kind)
    exact = torch.randn(3, INPUTS)
    for x in (exact, exact.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            calls, found = run(fast, x)
            expected = stock(x)
        assert calls == 1 and found.dtype == expected.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)


@pytest.mark.parametrize(("dynamic", "graphs"), [(False, 3), (True, 1)])
@torch.no_grad()
def test_a_compiled_layer_runs_the_operator(dynamic, graphs):
    stock, fast = pair("conv1d")
    seen = []

    def backend(graph, _):
        seen.append("ours" if "linear" in graph.code else "stock")
        return graph

    torch.compiler.reset()
    compiled = torch.compile(fast, backend=backend, dynamic=dynamic, fullgraph=True)
    for rows in (2, 3, 40):
        x = torch.randn(rows, 1, INPUTS)
        torch.testing.assert_close(compiled(x), stock(x))
    assert seen == ["ours"] * graphs


@pytest.mark.parametrize("dynamic", [False, True])
@torch.no_grad()
def test_export(dynamic):
    stock, fast = pair("linear-bias")
    shapes = ({0: torch.export.Dim("rows")},) if dynamic else None
    program = torch.export.export(
        nn.Sequential(fast), (torch.randn(5, INPUTS),), dynamic_shapes=shapes
    )
    for rows in (5, 50) if dynamic else (5,):
        x = torch.randn(rows, INPUTS)
        torch.testing.assert_close(program.module()(x), stock(x))
