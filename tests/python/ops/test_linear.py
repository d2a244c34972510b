"""``linear`` against float64, what it refuses, and what torch's machinery makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cases import case_id, rotate
from support.errors import says
from support.linear import (
    ACTIVATIONS,
    DTYPE_PAIRS,
    LAYOUTS,
    check_accuracy,
    make_layer,
    of_torch,
)
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad

from masked_attn import _C, linear, masked_attention, masked_softmax

SIZES = (1, 2, 15, 33, 64, 97, 260, 769)
ROWS = rotate(
    90,
    seed=7,
    dtypes=DTYPE_PAIRS,
    rows=(1, 2, 4, 5, 13, 31, 32, 33, 80),
    inputs=SIZES,
    outputs=SIZES,
    transposed=(False, True),
    bias=(False, True),
    activation=(None, *ACTIVATIONS),
    multiplier=(False, True, False),
    layout=LAYOUTS,
)


@pytest.mark.parametrize("row", ROWS, ids=case_id)
def test_accuracy(row: dict[str, Any], device: torch.device) -> None:
    check_accuracy(make_layer(**row, device=device))


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("rows", [100, 300])
def test_accuracy_of_many_rows(
    rows: int, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device
) -> None:
    """``test_linear_exactness.py`` adds: each number of rows up to 100 has the bits of these."""
    for transposed in (False, True):
        check_accuracy(make_layer(rows, 300, 70, dtypes, transposed=transposed, device=device))


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("shape", [(768, 2304), (3072, 768)], ids=str)
def test_accuracy_of_the_layers_of_gpt2(
    dtypes: tuple[torch.dtype, torch.dtype], shape: tuple[int, int], device: torch.device
) -> None:
    layer = make_layer(8, *shape, dtypes, transposed=True, activation="gelu_tanh", device=device)
    layer.weight.mul_(0.02)
    check_accuracy(layer)
    layer.weight, layer.transposed = layer.weight.t().contiguous(), False
    check_accuracy(layer)


def test_accuracy_of_a_whole_prompt(device: torch.device) -> None:
    check_accuracy(make_layer(2304, 768, 96, transposed=True, activation="gelu", device=device))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_over_their_range(
    activation: str, dtype: torch.dtype, device: torch.device
) -> None:
    """Also where e^-x leaves the normal numbers, and where it overflows."""
    layer = make_layer(1, 0, 0, (dtype, dtype), activation=activation, device=device)
    parts = (
        torch.linspace(-12, 12, 5000),
        torch.linspace(-110, 110, 997),
        torch.logspace(-6, 4, 99),
    )
    values = torch.cat([*parts, -parts[2], torch.zeros(1)]).to(device, dtype)
    layer.bias, layer.weight = values, torch.empty(values.numel(), 0, device=device, dtype=dtype)
    check_accuracy(layer)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_nan_and_infinity_are_torchs(activation: str, device: torch.device) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        layer = make_layer(1, 0, 3, (dtype, dtype), activation=activation, device=device)
        layer.bias = torch.tensor([torch.nan, torch.inf, -torch.inf], device=device, dtype=dtype)
        assert torch.equal(layer.call().nan_to_num(7), of_torch(layer).nan_to_num(7))


def test_a_gated_layer_is_two_calls(device: torch.device) -> None:
    x, gate, up = (torch.randn(5, 7, 40), torch.randn(60, 40), torch.randn(60, 40))
    x, gate, up = (t.to(device) for t in (x, gate, up))
    ours = linear(x, gate, activation="silu", multiplier=linear(x, up))
    wide = [t.double() for t in (x, gate, up)]
    truth = torch.nn.functional.silu(wide[0] @ wide[1].t()) * (wide[0] @ wide[2].t())
    torch.testing.assert_close(ours.double(), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("lead", [(), (1,), (2, 1), (3, 4), (2, 0), (2, 3, 50)], ids=str)
def test_any_leading_dimensions(
    lead: tuple[int, ...], transposed: bool, device: torch.device
) -> None:
    rows = torch.Size(lead).numel()
    layer = make_layer(rows, 40, 30, transposed=transposed, multiplier=True, device=device)
    assert layer.multiplier is not None
    out = layer.on(layer.x.view(*lead, 40), layer.multiplier.view(*lead, 30))
    assert_same_bits(out, layer.call().view(*lead, 30))


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("transposed", [False, True])
def test_sizes_of_zero(transposed: bool, activation: str | None, device: torch.device) -> None:
    def layer(*sizes: int, **options: Any) -> Any:
        options.update(transposed=transposed, activation=activation, device=device)
        return make_layer(*sizes, **options)

    for multiplier in (False, True):
        assert layer(0, 3, 4, multiplier=multiplier).call().shape == (0, 4)
        assert layer(2, 3, 0, multiplier=multiplier).call().shape == (2, 0)
        for rows in (2, 50):
            # What is left of a sum of nothing is its bias.
            check_accuracy(layer(rows, 0, 37, multiplier=multiplier))
            nothing = layer(rows, 0, 37, multiplier=multiplier, bias=False)
            assert not nothing.call().count_nonzero()


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


@pytest.mark.parametrize("name", ["tanh", "", "GELU", "gelu_new", "none"])
def test_an_unknown_activation_is_named(name: str, device: torch.device) -> None:
    for where in (device, "meta"):
        x, weight = torch.ones(2, 3, device=where), torch.ones(4, 3, device=where)
        with says("linear", "activation", "gelu_tanh, gelu, silu, relu", f"got {name}"):
            linear(x, weight, activation=name)  # type: ignore[arg-type]


def test_bad_multipliers(device: torch.device) -> None:
    x, weight = torch.ones(5, 2, 3, device=device), torch.ones(4, 3, device=device)
    right = torch.ones(5, 2, 4, device=device)
    with says("linear", "multiplier", "float64", "float32"):
        linear(x, weight, multiplier=right.double())
    with says("linear", "multiplier", "bool"):
        linear(x, weight, multiplier=right.bool())
    with says("linear", "multiplier", "3 dimensions", "[2, 4]"):
        linear(x, weight, multiplier=right[0])
    for shape in ((5, 2, 3), (5, 2, 1), (1, 2, 4), (10, 1, 4)):
        with says("linear", "multiplier", "[..., outputs] = [5, 2, 4]", str(list(shape))):
            linear(x, weight, multiplier=torch.ones(shape, device=device))
    with says("linear", "multiplier", "device"):
        linear(x, weight, multiplier=right.to("meta"))


@pytest.mark.parametrize("argument", ["x", "weight", "bias", "multiplier"])
def test_no_gradient_is_an_error(argument: str, device: torch.device) -> None:
    layer = make_layer(2, 3, 4, multiplier=True, device=device)
    getattr(layer, argument).requires_grad_()
    with says("linear", "not differentiable"):
        layer.call()
    with torch.no_grad():
        assert not layer.call().requires_grad
    with torch.inference_mode():
        layer.call()


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    "op", ["linear", "linear multiplier", "masked_attention", "masked_softmax"]
)
def test_a_tangent_is_never_lost(op: str, grad: bool, device: torch.device) -> None:
    """``no_grad`` does not stop forward-mode differentiation."""
    x = torch.ones(1, 1, 2, 3, device=device)
    square = torch.ones(3, 3, device=device)
    calls = {
        "linear": lambda t: linear(t, square),
        "linear multiplier": lambda t: linear(x, square, multiplier=t),
        "masked_attention": lambda t: masked_attention(t, x, x),
        "masked_softmax": masked_softmax,
    }
    name = op.split()[0]
    with forward_ad.dual_level(), torch.set_grad_enabled(grad), says(name, "detach"):
        calls[op](forward_ad.make_dual(x, x))


def test_autocast_decides_the_dtype_as_for_linear(device: torch.device) -> None:
    layer = make_layer(3, 40, 20, activation="gelu", multiplier=True, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        inside = layer.call()
    assert inside.dtype == torch.bfloat16
    for name in ("x", "weight", "bias", "multiplier"):
        setattr(layer, name, getattr(layer, name).bfloat16())
    assert_same_bits(inside, layer.call())


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("rows", [2, 40])
def test_opcheck(dtypes: tuple[torch.dtype, torch.dtype], rows: int, device: torch.device) -> None:
    layer = make_layer(rows, 12, 9, dtypes, multiplier=True, layout="rows apart", device=device)
    op = torch.ops.masked_attn.linear.default
    torch.library.opcheck(op, (layer.x, layer.weight, layer.bias))
    torch.library.opcheck(op, (layer.x[:, None], layer.weight.t()), {"transposed": True})
    torch.library.opcheck(op, (layer.x, layer.weight), {"activation": "silu"})
    options = {"activation": "gelu", "multiplier": layer.multiplier}
    torch.library.opcheck(op, (layer.x, layer.weight, layer.bias), options)


def test_one_graph_for_many_batches(device: torch.device) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    weight, bias = torch.randn(12, 9).to(device), torch.randn(9).to(device)

    def layer(x: Tensor, factors: Tensor) -> Tensor:
        options = {"transposed": True, "activation": "gelu_tanh", "multiplier": factors}
        return linear(x * 2, weight, bias, **options).relu()

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for rows in (2, 3, 32, 33, 50, 100):
        x, factors = torch.randn(rows, 1, 12).to(device), torch.randn(rows, 1, 9).to(device)
        torch.testing.assert_close(compiled(x, factors), layer(x, factors))
    assert counter.frame_count == 1


CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from support.linear import ACTIVATIONS, DTYPE_PAIRS, check_accuracy, make_layer
torch.set_num_threads(1)
SIZES = (1, 65, 49), (8, 260, 97), (32, 31, 33), (99, 300, 9)
for dtypes in DTYPE_PAIRS:
    for sizes, activation in zip(SIZES, ACTIVATIONS):
        for transposed in (False, True):
            options = {"activation": activation, "multiplier": sizes[0] > 8}
            layer = make_layer(*sizes, dtypes, transposed=transposed, **options)
            check_accuracy(layer)
            batch = layer.call()
            for i in range(sizes[0]):
                assert torch.equal(layer.call(slice(i, i + 1))[0], batch[i])
"""


@pytest.mark.parametrize("name", ["scalar", "avx2", "avx512", "avx512_bf16", "amx"])
def test_every_instruction_set(name: str) -> None:
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
