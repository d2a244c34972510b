"""MLPs, heads and linear layers of every family: stock's numbers, and a row's bits in any batch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support.accuracy import assert_same_bits
from support.calls import CallCounter
from torch import nn

pytest.importorskip("transformers")

from hf.checks import identities
from hf.layer_classes import CLASSES, MODELS, VOCAB, WIDTH, instance, whole_model
from hf.test_fast_mlp import Activations
from transformers.pytorch_utils import Conv1D

from masked_attn.hf.layers.linear import FastForward, fuse_linears
from masked_attn.hf.layers.mlp import FastMLP, fuse_mlps
from masked_attn.hf.layers.recipes import recipe_of
from masked_attn.hf.layers.replacement import replaced_in, restore_layers, set_layers

pytestmark = pytest.mark.integration

FAMILIES = pytest.mark.parametrize("family", MODELS)
EVERY = pytest.mark.parametrize(("family", "name"), CLASSES, ids=[name for _, name in CLASSES])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
IDS = torch.randint(3, VOCAB, (3, 7), generator=torch.Generator().manual_seed(5))


def fused(model, backbone=None):
    set_layers(model, backbone or model, fast_linear=True, fuse_activation=True)
    return model


@torch.no_grad()
def run(module, x):
    """What comes out, and the activations inside of ``linear``."""
    with Activations() as seen:
        out = module(x)
    return out, [name for name in seen.names if name is not None]


def hidden(rows, dtype=torch.float32, width=WIDTH):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(7)).to(dtype)


@EVERY
@DTYPES
def test_the_numbers_are_those_of_stock(family, name, dtype):
    stock = instance(family, name).to(dtype)
    module = fused(copy.deepcopy(stock))
    x = hidden(9, dtype)[None]
    found, inside = run(module, x)
    assert len(inside) == 1, "the activation ran by itself"
    expected = stock.double()(x.double())
    assert found.dtype == dtype and found.shape == expected.shape
    scale, eps = expected.abs().max(), torch.finfo(dtype).eps
    assert (found.double() - expected).abs().max() <= 16 * eps * scale


@EVERY
@DTYPES
def test_a_row_has_the_same_bits_in_every_batch(family, name, dtype):
    module = fused(instance(family, name).to(dtype))
    x = hidden(130, dtype)
    alone = torch.cat([run(module, row[None, None])[0][0] for row in x])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for first, last in ((0, 130), (1, 4), (5, 70), (64, 129)):
                found, _ = run(module, x[None, first:last])
                assert_same_bits(found[0], alone[first:last])
    finally:
        torch.set_num_threads(threads)


@EVERY
def test_gradients_run_stock_code(family, name):
    stock = instance(family, name)
    gradients = []
    for module in (stock, fused(copy.deepcopy(stock))):
        x = hidden(5)[None].requires_grad_()
        with CallCounter() as calls:
            module(x).square().sum().backward()
        assert calls["linear"] == 0
        gradients.append([x.grad, *(parameter.grad for parameter in module.parameters())])
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        assert_same_bits(found, expected)


@EVERY
@pytest.mark.parametrize("part", ["first", "act"])
@pytest.mark.parametrize("change", ["hook", "pre-hook", "forward"])
def test_what_others_put_on_a_part_has_its_effect(family, name, part, change):
    stock = instance(family, name)
    where = getattr(recipe_of(type(stock)), part)
    if where is None:
        pytest.skip("the class calls a function: there is no module to change")
    plain = run(stock, hidden(5)[None])[0]
    for module in (stock, ours := fused(copy.deepcopy(stock))):
        target = module.get_submodule(where)
        if change == "hook":
            target.register_forward_hook(lambda module, args, out: out.square())
        elif change == "pre-hook":
            target.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        else:
            target.forward = lambda x, before=target.forward: before(x).square()
    expected = run(stock, hidden(5)[None])[0]
    found, inside = run(ours, hidden(5)[None])
    assert inside == [] and (expected - plain).abs().max() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("what", ["hook", "trained", "other-dtype"])
def test_a_gate_beside_an_up_projection_that_others_changed(what):
    stock = instance("llama", "LlamaMLP")
    ours = fused(copy.deepcopy(stock))
    found = []
    for mlp in (stock, ours):
        if what == "hook":
            mlp.up_proj.register_forward_hook(lambda module, args, out: 2 * out)
        elif what == "other-dtype":
            mlp.up_proj.register_forward_hook(lambda module, args, out: out.double())
            mlp.down_proj.double()
        else:
            mlp.requires_grad_(False)
            mlp.up_proj.weight.requires_grad_()
        found.append(mlp(hidden(5)[None]))
        if what == "trained":
            found[-1].sum().backward()
            found[-1] = mlp.up_proj.weight.grad
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=1e-4)


def test_slices_of_a_sequence_stay():
    stock = instance("distilbert", "FFN")
    ours = fused(copy.deepcopy(stock))
    stock.chunk_size_feed_forward = ours.chunk_size_feed_forward = 3
    found, inside = run(ours, hidden(9)[None])
    assert inside == []
    torch.testing.assert_close(found, run(stock, hidden(9)[None])[0])


@FAMILIES
def test_every_linear_layer_of_a_model_is_taken(family):
    model = fused(whole_model(family))
    layers = [m for m in model.modules() if type(m) in (nn.Linear, Conv1D)]
    assert layers and all(isinstance(m.__dict__["forward"], FastForward) for m in layers)
    assert any(isinstance(m.__dict__.get("forward"), FastMLP) for m in model.modules())
    with CallCounter() as calls, torch.no_grad():
        found = model(IDS).logits
        expected = whole_model(family).double()(IDS).logits
    assert calls["linear"] >= len(layers)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@FAMILIES
def test_the_identical_modules_come_back(family):
    model = whole_model(family)
    before = identities(model)
    assert not replaced_in(model)
    fused(fused(model))
    assert replaced_in(model)
    restore_layers(model)
    assert identities(model) == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copied):
    model = fused(whole_model("llama"))
    twin = copied(model)
    with torch.no_grad():
        expected = model(IDS).logits
        assert_same_bits(twin(IDS).logits, expected)
        twin.model.layers[0].mlp.gate_proj.weight.add_(1)
        assert not torch.equal(twin(IDS).logits, expected)
        assert_same_bits(model(IDS).logits, expected)
    restore_layers(twin)
    assert replaced_in(model) and not replaced_in(twin)


def test_levels_are_switched():
    model = whole_model("llama")
    for fast, fuse, kinds in (
        (True, True, {"FastForward", "FastMLP", "ExactActivation"}),
        (True, False, {"FastForward"}),
        (False, True, set()),
        (True, True, {"FastForward", "FastMLP", "ExactActivation"}),
        (False, False, set()),
    ):
        set_layers(model, model.model, fast_linear=fast, fuse_activation=fuse)
        assert {type(m.__dict__["forward"]).__name__ for m in replaced_in(model)} == kinds


def test_a_subclass_of_a_known_class_keeps_its_forward():
    mlp = instance("llama", "LlamaMLP")
    mlp.__class__ = type("Other", (type(mlp),), {"forward": lambda self, x: 3 * x})
    fuse_linears(mlp, mlp)
    fuse_mlps(mlp, mlp)
    assert torch.equal(mlp(hidden(2)), 3 * hidden(2))


class Around(nn.Module):
    def __init__(self, model, beside):
        super().__init__()
        self.before, self.model, self.beside = nn.Linear(2, 2), model, beside


def test_another_model_beside_the_backbone_stays():
    model, beside = whole_model("llama"), whole_model("bert")
    around = Around(model, beside)
    fused(around, model.model)
    assert not replaced_in(beside)
    assert around.before in replaced_in(around) and model.lm_head in replaced_in(around)
    restore_layers(around)
    assert not replaced_in(around)


def test_what_stood_before_can_be_kept():
    model = whole_model("bert")
    fused(model.bert, model.bert)
    before = replaced_in(model)
    fused(model, model.bert)
    assert before < replaced_in(model)
    restore_layers(model, keep=before)
    assert replaced_in(model) == before
