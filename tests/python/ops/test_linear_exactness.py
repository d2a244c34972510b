"""``linear``: the bits of a row depend on the row and the weight only. On the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.accuracy import assert_same_bits
from support.linear import ACTIVATIONS, DTYPE_PAIRS, check_accuracy, make_layer, strided
from torch import Tensor

from masked_attn import _C, linear

PAIRS = pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
BOTH_LAYOUTS = pytest.mark.parametrize("transposed", [False, True], ids=["[N,K]", "[K,N]"])


@BOTH_LAYOUTS
@PAIRS
def test_each_number_of_rows_has_the_same_bits(
    dtypes: tuple[torch.dtype, torch.dtype], transposed: bool
) -> None:
    """1 to 100 rows from any place of a batch; 77 outputs are no multiple of a vector."""
    layer = make_layer(100, 600, 77, dtypes, transposed=transposed, activation="gelu_tanh")
    check_accuracy(layer)
    expected = layer.call()
    for rows in range(1, 101):
        begin = rows * 37 % (101 - rows)
        part = slice(begin, begin + rows)
        assert_same_bits(layer.call(part), expected[part], f"{rows} rows from {begin}")


@BOTH_LAYOUTS
@PAIRS
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_a_row_alone_has_the_bits_of_the_row_in_a_batch(
    activation: str | None, dtypes: tuple[torch.dtype, torch.dtype], transposed: bool
) -> None:
    for outputs in (1, 7, 61):
        layer = make_layer(
            33, 540, outputs, dtypes, transposed=transposed, activation=activation, multiplier=True
        )
        expected = layer.call()
        for row in (0, 1, 16, 31, 32):
            alone = slice(row, row + 1)
            assert_same_bits(layer.call(alone), expected[alone])


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_long_prompt_has_the_bits_of_its_tokens(dtype: torch.dtype, transposed: bool) -> None:
    """Of a step too: 2304 tokens, parts of them, and one."""
    layer = make_layer(2304, 768, 100, (dtype, dtype), transposed=transposed, activation="gelu")
    expected = layer.call()
    for begin, end in ((0, 1), (2303, 2304), (5, 300), (700, 1500), (1000, 1004), (3, 2304)):
        assert_same_bits(layer.call(slice(begin, end)), expected[begin:end])
    order = torch.randperm(2304)
    assert_same_bits(layer.on(layer.x[order]), expected[order])


@BOTH_LAYOUTS
@PAIRS
def test_nan_in_a_row_stays_there(
    dtypes: tuple[torch.dtype, torch.dtype], transposed: bool
) -> None:
    for rows in (3, 40):
        layer = make_layer(rows, 131, 50, dtypes, transposed=transposed)
        expected = layer.call()
        layer.x[1] = torch.nan
        others = torch.arange(rows) != 1
        found = layer.call()
        assert_same_bits(found[others], expected[others])
        assert found[1].isnan().all()


@PAIRS
def test_an_activation_has_the_same_bits_at_every_place(
    dtypes: tuple[torch.dtype, torch.dtype],
) -> None:
    """torch's loops and their tails do not promise that."""
    for activation in ACTIVATIONS:
        layer = make_layer(1, 0, 53, dtypes, activation=activation)
        assert layer.bias is not None
        expected, values = layer.call(), layer.bias
        for begin in range(53):
            for end in {begin + 1, 53}:
                layer.bias = values[begin:end]
                layer.weight = torch.empty(end - begin, 0, dtype=dtypes[1])
                assert_same_bits(layer.call(), expected[:, begin:end])


@BOTH_LAYOUTS
@pytest.mark.parametrize("rows", [1, 8, 300])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads: int, rows: int, transposed: bool) -> None:
    layer = make_layer(rows, 768, 1000, transposed=transposed, activation="silu")
    torch.set_num_threads(4)
    expected = layer.call()
    torch.set_num_threads(threads)
    assert_same_bits(layer.call(), expected)


@BOTH_LAYOUTS
@pytest.mark.parametrize("layout", ["rows apart", "other way", "neither"])
def test_strides_of_input_and_multiplier_change_no_bit(layout: str, transposed: bool) -> None:
    for rows in (4, 30):
        layer = make_layer(rows, 70, 45, transposed=transposed, multiplier=True)
        expected = layer.call()
        x, factors = (
            strided(rows, 70, layout, torch.float32),
            strided(rows, 45, layout, torch.float32),
        )
        x.copy_(layer.x), factors.copy_(layer.multiplier)
        assert_same_bits(layer.on(x, factors), expected)


def test_the_memory_of_the_weight_decides_not_how_it_is_named(device: torch.device) -> None:
    for rows in (3, 50):
        x, weight = torch.randn(rows, 100).to(device), torch.randn(100, 70).to(device)
        expected = linear(x, weight, transposed=True)
        assert_same_bits(linear(x, weight.t()), expected)
        rows_apart = torch.randn(100, 90).to(device)
        rows_apart[:, :70] = weight
        assert_same_bits(linear(x, rows_apart[:, :70], transposed=True), expected)


def test_the_arguments_are_left_as_they_are() -> None:
    layer = make_layer(40, 70, 45, activation="gelu", multiplier=True)
    arguments = [layer.x, layer.weight, layer.bias, layer.multiplier]
    copies = [t.clone() for t in arguments if t is not None]
    out = layer.call()
    assert all(torch.equal(*pair) for pair in zip(arguments, copies, strict=True))
    assert all(out.data_ptr() != t.data_ptr() for t in arguments if t is not None)


def defined(x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """The definition in float32, with fused multiply-adds by way of float64.

    The values have 11 bits, so a product is exact there, and so is its sum with a float32 value,
    unless one of the two is too small to change the other.
    """
    total = None
    left, right = x.double().numpy(), matrix.double().numpy()
    for begin in range(0, x.shape[1], 256):
        chain = np.zeros((x.shape[0], matrix.shape[0]), np.float32)
        for k in range(begin, min(begin + 256, x.shape[1])):
            chain = (left[:, k : k + 1] * right[:, k] + chain).astype(np.float32)
        total = chain if total is None else total + chain
    return torch.from_numpy(total + bias.numpy())


@BOTH_LAYOUTS
def test_the_definition(transposed: bool) -> None:
    """Panels of 256 inputs, one chain in each, totals in order, bias: as numerics.md says it."""
    if _C.selected_instruction_set() == "scalar":
        pytest.skip("multiply-adds of this set are not fused; the C++ tests do it")
    for rows in (1, 5, 120):
        layer = make_layer(rows, 700, 33, transposed=transposed)
        layer.x, layer.weight = layer.x.half().float(), layer.weight.half().float()
        assert layer.bias is not None
        assert_same_bits(layer.call(), defined(layer.x, layer.matrix, layer.bias))


@pytest.fixture
def flushing() -> Iterator[None]:
    """This thread takes denormals for 0, while torch's others, which it made before, do not."""
    linear(torch.ones(300, 300), torch.ones(1600, 300))
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("flushing")
def test_denormals_count_whatever_the_thread_flushes(threads: int) -> None:
    torch.set_num_threads(threads)
    small = torch.tensor([1 << 13], dtype=torch.int32).view(torch.float32).expand(1600, 300)
    results = linear(torch.ones(300, 300), small).view(torch.int32)
    assert (results == 300 << 13).all()
    halves = torch.full((40, 63), 1e-5).half()  # denormals of float16
    for rows in (1, 8, 9, 100):
        found = linear(torch.full((rows, 63), 100.0).half(), halves)
        assert (found == torch.tensor(63 * 100 * float(halves[0, 0])).half()).all()
