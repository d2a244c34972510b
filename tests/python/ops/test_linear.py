"""``linear`` against float64, and the properties that need no tolerance."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from masked_attn.linear import MAX_ROWS, linear
from support import bounds, oracle
from support.accuracy import assert_accurate, assert_same_bits
from support.cases import DTYPES, case_id, rotate
from support.errors import says
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.nn.functional import linear

from masked_attn import masked_attention, masked_softmax

# Of the input and of the weight.
DTYPE_PAIRS = (
    *((dtype, dtype) for dtype in DTYPES),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
)
SIZES = (1, 2, 15, 33, 64, 97, 260, 769)
ROWS = rotate(
    60,
    seed=7,
    dtypes=DTYPE_PAIRS,
    lead=((1,), (2, 1), (8, 1), (3, 4), (31,), (32,), (33,), (2, 40), ()),
    inputs=SIZES,
    outputs=SIZES,
    transposed=(False, True),
    bias=(False, True),
    layout=("plain", "rows apart", "other way", "neither"),
)


def make_weight(outputs: int, inputs: int, layout: str, dtype: torch.dtype) -> Tensor:
    """``[outputs, inputs]`` of any memory layout."""
    wide = torch.randn(2 * outputs, 2 * inputs).to(dtype)
    if layout == "plain":
        return wide[:outputs, :inputs].contiguous()
    if layout == "rows apart":
        return wide[::2, :inputs]
    if layout == "other way":
        return wide[:outputs, :inputs].t().contiguous().t()
    return wide[::2, ::2]


def make(row: dict[str, Any], device: torch.device) -> tuple[Tensor, Tensor, Tensor | None, bool]:
    """Input, weight ``[outputs, inputs]`` or ``[inputs, outputs]``, bias, transposed."""
    dtype, weight_dtype = row["dtypes"]
    x = torch.randn(*row["lead"], row["inputs"]).to(device, dtype)
    sizes = row["outputs"], row["inputs"]
    sizes = sizes[::-1] if row["transposed"] else sizes
    weight = make_weight(*sizes, row["layout"], weight_dtype)
    # A copy to another device makes the memory dense; on the CPU nothing is copied.
    weight = weight.to(device)
    bias = torch.randn(row["outputs"]).to(device, weight_dtype) if row["bias"] else None
    return x, weight, bias, row["transposed"]


def check_accuracy(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> None:
    ours = linear(x, weight, bias, transposed=transposed)
    matrix = weight.t() if transposed else weight
    others = None if bias is None else bias.to(x.dtype)
    assert ours.dtype == x.dtype and ours.is_contiguous()
    assert_accurate(ours, true_linear(x, matrix, bias), bounds.linear(x, matrix, bias))
    if x.is_cuda:  # torch's own product, which may add up halves in halves
        assert_same_bits(ours, linear(x, matrix.to(x.dtype), others))


def true_linear(x: Tensor, matrix: Tensor, bias: Tensor | None) -> np.ndarray:
    wide = oracle.truth_dtype(x.dtype)
    products: np.ndarray = oracle.to_numpy(x, wide) @ oracle.to_numpy(matrix, wide).T
    return products if bias is None else products + oracle.to_numpy(bias, wide)


@pytest.mark.parametrize("row", ROWS, ids=case_id)
def test_accuracy(row: dict[str, Any], device: torch.device) -> None:
    check_accuracy(*make(row, device))


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("shape", [(768, 2304), (3072, 768)], ids=str)
def test_accuracy_of_the_layers_of_gpt2(
    dtypes: tuple[torch.dtype, torch.dtype], shape: tuple[int, int], device: torch.device
) -> None:
    x = torch.randn(8, 1, shape[0]).to(device, dtypes[0])
    weight = torch.randn(shape).mul(0.02).to(device, dtypes[1])
    bias = torch.randn(shape[1]).to(device, dtypes[1])
    check_accuracy(x, weight, bias, True)
    check_accuracy(x, weight.t().contiguous(), bias, False)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_a_row_alone_has_the_bits_of_the_row_in_a_batch(
    dtypes: tuple[torch.dtype, torch.dtype], transposed: bool
) -> None:
    x = torch.randn(MAX_ROWS, 770).to(dtypes[0])
    weight = torch.randn((770, 300) if transposed else (300, 770)).to(dtypes[1])
    bias = torch.randn(300).to(dtypes[1])
    expected = linear(x, weight, bias, transposed=transposed)
    for begin, end in ((0, 1), (31, 32), (3, 5), (8, 16), (0, 13), (5, 30), (0, 31)):
        part = x[begin:end]
        part = part.clone() if begin % 2 else part
        found = linear(part, weight, bias, transposed=transposed)
        assert_same_bits(found, expected[begin:end])
    strange = x.clone()
    strange[7] = torch.nan
    others = torch.arange(MAX_ROWS) != 7
    found = linear(strange, weight, bias, transposed=transposed)
    assert_same_bits(found[others], expected[others])
    assert found[7].isnan().all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads: int) -> None:
    x, weight = torch.randn(8, 768), torch.randn(768, 2304)
    expected = linear(x, weight, transposed=True)
    expected_rows = linear(x, weight.t().contiguous())
    torch.set_num_threads(threads)
    assert_same_bits(linear(x, weight, transposed=True), expected)
    assert_same_bits(linear(x, weight.t().contiguous()), expected_rows)


def test_the_memory_of_the_weight_decides_not_how_it_is_named(device: torch.device) -> None:
    x, weight = torch.randn(5, 100).to(device), torch.randn(100, 70).to(device)
    expected = linear(x, weight, transposed=True)
    assert_same_bits(linear(x, weight.t()), expected)
    rows_apart = torch.randn(100, 90).to(device)
    rows_apart[:, :70] = weight
    assert_same_bits(linear(x, rows_apart[:, :70], transposed=True), expected)


@pytest.mark.parametrize("transposed", [False, True])
def test_sizes_of_zero(transposed: bool, device: torch.device) -> None:
    def call(rows: int, inputs: int, outputs: int, bias: bool = True) -> Tensor:
        sizes = (inputs, outputs) if transposed else (outputs, inputs)
        ones = torch.ones(outputs, device=device) if bias else None
        x, weight = torch.ones(rows, inputs, device=device), torch.ones(sizes, device=device)
        return linear(x, weight, ones, transposed=transposed)

    assert call(0, 3, 4).shape == (0, 4)
    assert call(2, 3, 0).shape == (2, 0)
    assert_same_bits(call(2, 0, 4), torch.ones(2, 4))
    assert_same_bits(call(2, 0, 4, bias=False), torch.zeros(2, 4))


def test_bad_inputs(device: torch.device) -> None:
    x, weight = torch.ones(2, 3, device=device), torch.ones(4, 3, device=device)
    with says("linear", "input", "int64"):
        linear(x.long(), weight)
    with says("linear", "weight", "float32", "float64"):
        linear(x, weight.double())
    with says("linear", "weight", "bfloat16", "float32"):
        linear(x.bfloat16(), weight)
    with says("linear", "bias", "float16", "float32"):
        linear(x, weight, torch.ones(4, device=device).half())
    with says("linear", "input", "at least 1 dimension"):
        linear(x[0, 0], weight)
    with says("linear", "weight", "2 dimensions", "[3]"):
        linear(x, weight[0])
    with says("linear", "weight", "[outputs, inputs] = [3, 3]", "[3, 4]"):
        linear(x, weight.t())
    with says("linear", "weight", "[inputs, outputs] = [3, 3]", "[4, 3]"):
        linear(x, weight, transposed=True)
    with says("linear", "bias", "[outputs] = [4]", "[3]"):
        linear(x, weight, torch.ones(3, device=device))
    with says("linear", "weight", "device"):
        linear(x, weight.to("meta"))


def test_no_gradient_is_an_error(device: torch.device) -> None:
    x, weight = torch.ones(2, 3, device=device), torch.ones(4, 3, device=device)
    weight.requires_grad_()
    with says("linear", "not differentiable"):
        linear(x, weight)
    with torch.no_grad():
        assert not linear(x, weight).requires_grad
    with torch.inference_mode():
        linear(x, weight)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("op", ["linear", "masked_attention", "masked_softmax"])
def test_a_tangent_is_never_lost(op: str, grad: bool, device: torch.device) -> None:
    """``no_grad`` does not stop forward-mode differentiation."""
    x = torch.ones(1, 1, 2, 3, device=device)
    calls = {
        "linear": lambda t: linear(t, torch.ones(4, 3, device=device)),
        "masked_attention": lambda t: masked_attention(t, x, x),
        "masked_softmax": masked_softmax,
    }
    with forward_ad.dual_level(), torch.set_grad_enabled(grad), says(op, "detach"):
        calls[op](forward_ad.make_dual(x, x))


def test_autocast_decides_the_dtype_as_for_linear(device: torch.device) -> None:
    x, weight = torch.randn(3, 40).to(device), torch.randn(20, 40).to(device)
    bias = torch.randn(20).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        inside = linear(x, weight, bias)
    assert inside.dtype == torch.bfloat16
    assert_same_bits(inside, linear(x.bfloat16(), weight.bfloat16(), bias.bfloat16()))


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("rows", [2, 40])
def test_opcheck(dtypes: tuple[torch.dtype, torch.dtype], rows: int, device: torch.device) -> None:
    x = torch.randn(rows, 1, 12).to(device, dtypes[0])
    weight, bias = torch.randn(12, 9).to(device, dtypes[1]), torch.randn(9).to(device, dtypes[1])
    op = torch.ops.masked_attn.linear.default
    torch.library.opcheck(op, (x, weight, bias), {"transposed": True})
    torch.library.opcheck(op, (x, weight.t().contiguous()))


def test_one_graph_for_many_batches(device: torch.device) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    weight, bias = torch.randn(12, 9).to(device), torch.randn(9).to(device)

    def layer(x: Tensor) -> Tensor:
        return linear(x * 2, weight, bias, transposed=True).relu()

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for rows in (2, 3, 32, 33, 50):
        x = torch.randn(rows, 1, 12).to(device)
        torch.testing.assert_close(compiled(x), layer(x))
    assert counter.frame_count == 1


CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from ops.test_linear import DTYPE_PAIRS, check_accuracy
torch.set_num_threads(1)
for dtype, weight_dtype in DTYPE_PAIRS:
    for rows, inputs, outputs in ((1, 65, 49), (8, 260, 97), (32, 31, 33)):
        x, bias = torch.randn(rows, inputs).to(dtype), torch.randn(outputs).to(weight_dtype)
        weight = torch.randn(outputs, inputs).to(weight_dtype)
        check_accuracy(x, weight, bias, False)
        check_accuracy(x, weight.t().contiguous(), bias, True)
"""


@pytest.mark.parametrize("name", ["scalar", "avx2", "avx512", "avx512_bf16", "amx"])
def test_every_instruction_set(name: str) -> None:
    from masked_attn import _C

    if name not in _C.instruction_sets():
        pytest.skip(f"this CPU has {', '.join(_C.instruction_sets())}, not {name}")
    tests = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-c", CHECK, tests],
        env={**os.environ, "MASKED_ATTN_ISA": name},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
