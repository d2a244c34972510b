"""Activations that run outside ``linear``: stock's functions, the same bits at every place."""

from __future__ import annotations

import copy

import pytest
import torch
from support.accuracy import assert_same_bits
from torch import nn

pytest.importorskip("transformers")

from transformers.activations import ACT2FN, NewGELUActivation

from masked_attn.hf.layers.activation import (
    ExactActivation,
    FusedGELU,
    fuse_activations,
    restore_activations,
)

pytestmark = pytest.mark.integration

ACTIVATIONS = {
    **{
        name: ACT2FN[name]
        for name in (
            *("gelu", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_python_tanh"),
            *("quick_gelu", "sigmoid", "silu", "swish"),
        )
    },
    "nn.GELU": nn.GELU(),
    "nn.GELU-tanh": nn.GELU(approximate="tanh"),
    "nn.SiLU": nn.SiLU(),
}
EVERY = pytest.mark.parametrize("name", ACTIVATIONS)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


def exact(name):
    act = copy.deepcopy(ACTIVATIONS[name])
    fuse_activations(act, act, exact=True)
    assert isinstance(act.__dict__["forward"], ExactActivation)
    return act


def truth(name, x):
    """In float64, by formulas in which nothing cancels."""
    x = x.double()
    if "quick" in name:
        return x * torch.sigmoid(1.702 * x)
    if "sigmoid" in name:
        return torch.sigmoid(x)
    if "silu" in name.lower() or name == "swish":
        return x * torch.sigmoid(x)
    if "tanh" in name or "new" in name:
        u = (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)
        return x * torch.sigmoid(2 * u)
    return 0.5 * x * torch.special.erfc(-x * 0.5**0.5)


@EVERY
@DTYPES
def test_the_numbers(name, dtype):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(2)).mul_(4).to(dtype)
    found, expected = exact(name)(x), truth(name, x)
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    # Where the function falls off as e^-u, the rounding of u is a relative error.
    bound = (
        eps * expected.abs() * (8 + 4 * x.double().square())
        + (eps if dtype.itemsize == 2 else 4) * tiny
    )
    assert found.dtype == dtype
    assert ((found.double() - expected).abs() <= bound).all()
    torch.testing.assert_close(found, ACTIVATIONS[name](x), atol=8 * eps, rtol=8 * eps)


@EVERY
def test_special_values(name):
    x = torch.tensor([-1e30, -200.0, -0.0, 0.0, 200.0, 1e30, torch.inf, torch.nan])
    torch.testing.assert_close(exact(name)(x), ACTIVATIONS[name](x), equal_nan=True)


@EVERY
@DTYPES
def test_an_element_has_the_same_bits_at_every_place(name, dtype):
    act = exact(name)
    x = torch.randn(40, 33, generator=torch.Generator().manual_seed(4)).mul_(3).to(dtype)
    alone = torch.stack([act(element) for element in x.flatten()]).view_as(x)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert_same_bits(act(x), alone)
            assert_same_bits(act(x.repeat(100, 1)), alone.repeat(100, 1))
            assert_same_bits(act(x.T), alone.T)
            for first, last in ((0, 7), (3, 64), (17, 33)):
                assert_same_bits(act(x[:, first:last]), alone[:, first:last])
                assert_same_bits(act(x[first:last].clone()), alone[first:last])
    finally:
        torch.set_num_threads(threads)


def test_the_control_of_torch():
    """What is mended here: torch's own functions depend on the place."""
    x = torch.randn(4000, generator=torch.Generator().manual_seed(4)) * 3
    different = [
        name
        for name, act in ACTIVATIONS.items()
        if any(not torch.equal(act(x[:count].clone()), act(x)[:count]) for count in range(1, 40))
    ]
    if not different:
        pytest.skip("torch has one formula for all places on this CPU")


@EVERY
def test_gradients_and_other_devices_run_stock_code(name):
    act, stock = exact(name), ACTIVATIONS[name]
    x = torch.randn(9, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert_same_bits(act(x).detach(), stock(x).detach())
    gradients = [torch.autograd.grad(module(x).sum(), x)[0] for module in (act, stock)]
    assert_same_bits(*gradients)
    assert act(torch.randn(3, device="meta")).shape == (3,)


def test_what_is_given_is_not_written():
    for name in ACTIVATIONS:
        x = torch.randn(40)
        before = x.clone()
        exact(name)(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("act", [nn.SiLU(inplace=True), nn.Tanh(), nn.Mish(), ACT2FN["gelu_10"]])
def test_others_stay(act):
    fuse_activations(act, act, exact=True)
    assert "forward" not in act.__dict__


def test_one_pass_and_exact_are_switched():
    act = NewGELUActivation()
    for flag, kind in ((False, FusedGELU), (True, ExactActivation), (False, FusedGELU)):
        fuse_activations(act, act, exact=flag)
        first = act.__dict__["forward"]
        fuse_activations(act, act, exact=flag)
        assert type(first) is kind and act.__dict__["forward"] is first and first.previous is None
    restore_activations(act)
    assert "forward" not in act.__dict__


def test_the_activation_that_a_cross_encoder_holds_beside_its_modules():
    model = nn.Sequential(nn.Linear(2, 2))
    model.__dict__["activation_fn"] = nn.Sigmoid()
    fuse_activations(model, model, exact=True)
    assert isinstance(model.activation_fn.__dict__["forward"], ExactActivation)
    restore_activations(model)
    assert "forward" not in model.activation_fn.__dict__
