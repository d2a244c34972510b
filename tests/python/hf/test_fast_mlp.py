"""The MLP of a block with its activation inside ``linear``: where it runs, and where not."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support.calls import CallCounter
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("transformers")

from hf.checks import assert_close, identities
from hf.models import gpt2, prompts
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

from masked_attn.hf import patch, unpatch
from masked_attn.hf.instance.forward_slot import forward_slot
from masked_attn.hf.layers.mlp import FastMLP

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
# What ``linear`` calls them.
NAMES = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh"), "gelu_tanh"),
    **{name: name for name in ("gelu", "relu", "silu")},
    "swish": "silu",
}
HIDDEN = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(3))


class Activations(TorchDispatchMode):
    """Which activations ``linear`` was given."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.masked_attn.linear.default:
            self.names.append((kwargs or {}).get("activation"))
        return func(*args, **(kwargs or {}))


def first_mlp(model):
    return model.transformer.h[0].mlp


@torch.no_grad()
def run(mlp, x=HIDDEN):
    """What comes out, and the activations inside of ``linear``."""
    with Activations() as seen:
        out = mlp(x)
    return out, [name for name in seen.names if name is not None]


def are_fast(model):
    mlps = [block.mlp for block in model.transformer.h]
    return [isinstance(mlp.__dict__.get(forward_slot(mlp)), FastMLP) for mlp in mlps]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_stock(name, dtype):
    stock = first_mlp(gpt2(activation_function=name).to(dtype))
    patched = patch(gpt2(activation_function=name).to(dtype))
    found, inside = run(first_mlp(patched), HIDDEN.to(dtype))
    assert inside == [NAMES[name]]
    expected = stock.double()(HIDDEN.to(dtype).double())
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=32 * eps, rtol=32 * eps)
    assert found.dtype == dtype


@pytest.mark.parametrize("name", ["quick_gelu", "tanh", "gelu_10", "gelu_fast", "linear"])
def test_other_activations_run_by_themselves(name):
    model = patch(gpt2(activation_function=name))
    found, inside = run(first_mlp(model))
    assert inside == []
    assert_close(found, first_mlp(gpt2(activation_function=name))(HIDDEN))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({}, True),
        ({"fast_linear": False}, False),
        ({"fuse_activation": False}, False),
        ({"fast_linear": False, "fuse_activation": False}, False),
    ],
)
def test_it_needs_both_levels(levels, expected):
    model = patch(patch(gpt2()), **levels)
    assert are_fast(model) == [expected] * 2
    assert bool(run(first_mlp(model))[1]) == expected


def test_the_identical_modules_come_back():
    model = gpt2()
    before = identities(model)
    patch(patch(model))
    assert are_fast(model) == [True] * 2
    unpatch(model)
    assert identities(model) == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copied):
    model = patch(gpt2())
    twin = copied(model)
    with torch.no_grad():
        first_mlp(twin).c_fc.bias.add_(1)
    (ours, inside), (theirs, _) = run(first_mlp(twin)), run(first_mlp(model))
    assert inside and (ours - theirs).abs().max() > 1e-2
    assert are_fast(unpatch(twin)) == [False] * 2 and are_fast(model) == [True] * 2


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def hook_on(name):
    def change(mlp):
        module = mlp.get_submodule(name)
        module.register_forward_hook(lambda module, args, out: 2 * out)

    return change


def pre_hook_on(name):
    def change(mlp):
        module = mlp.get_submodule(name)
        module.register_forward_pre_hook(lambda module, args: (args[0] + 1,))

    return change


def other_forward(name):
    def change(mlp):
        module = mlp.get_submodule(name)
        previous = type(module).forward.__get__(module)
        module.forward = lambda x: 2 * previous(x)

    return change


def replace_act(mlp):
    mlp.act = nn.Tanh()


def subclass_act(mlp):
    mlp.act = type("Act", (nn.ReLU,), {"forward": lambda self, x: 3 * x})()


def replace_first(mlp):
    linear = nn.Linear(32, 128)
    linear.weight, linear.bias = nn.Parameter(mlp.c_fc.weight.T / 2), mlp.c_fc.bias
    mlp.c_fc = linear


def parametrized(mlp):
    parametrize.register_parametrization(mlp.c_fc, "weight", Halved())


def pruned(mlp):
    prune.l1_unstructured(mlp.c_fc, "weight", amount=0.5)


def another_module(mlp):
    """What an adapter adds, with a forward of its own that uses it."""
    mlp.extra = nn.Linear(32, 32)
    nn.init.ones_(mlp.extra.weight)
    previous = type(mlp).forward.__get__(mlp)
    mlp.forward = lambda x: previous(x) + mlp.extra(x)


CHANGES = {
    "hook-c_fc": hook_on("c_fc"),
    "hook-act": hook_on("act"),
    "pre-hook-c_fc": pre_hook_on("c_fc"),
    "pre-hook-act": pre_hook_on("act"),
    "forward-c_fc": other_forward("c_fc"),
    "forward-act": other_forward("act"),
    "act": replace_act,
    "act-subclass": subclass_act,
    "c_fc": replace_first,
    "parametrized": parametrized,
    "pruned": pruned,
    "another-module": another_module,
}


@pytest.mark.parametrize("when", ["changed-first", "patched-first"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_others_changed_has_its_effect(name, when):
    torch.manual_seed(1)
    stock = first_mlp(gpt2())
    plain = run(stock)[0]
    CHANGES[name](stock)
    expected, _ = run(stock)
    assert (expected - plain).abs().max() > 1e-2, "nothing was changed"
    torch.manual_seed(1)
    model = gpt2() if when == "changed-first" else patch(gpt2())
    CHANGES[name](first_mlp(model))
    found, inside = run(first_mlp(patch(model) if when == "changed-first" else model))
    assert_close(found, expected)
    # A plain layer in the place of the first is one of which ``linear`` knows the products.
    assert inside == (["gelu_tanh"] if (name, when) == ("c_fc", "changed-first") else [])


@pytest.mark.parametrize("name", ["c_proj", "dropout"])
def test_hooks_behind_the_activation_stay(name):
    stock, model = gpt2(), patch(gpt2())
    for each in (stock, model):
        hook_on(name)(first_mlp(each))
    found, inside = run(first_mlp(model))
    assert inside == ["gelu_tanh"]
    assert_close(found, run(first_mlp(stock))[0])


def test_a_hook_on_the_mlp_stays():
    stock, model = gpt2(), patch(gpt2())
    for each in (stock, model):
        first_mlp(each).register_forward_hook(lambda module, args, out: 2 * out)
    found, inside = run(first_mlp(model))
    assert inside == ["gelu_tanh"]
    assert_close(found, run(first_mlp(stock))[0])


def test_global_hooks_see_the_activation():
    model, calls = patch(gpt2()), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(module))
    try:
        run(first_mlp(model))
    finally:
        handle.remove()
    assert first_mlp(model).act in calls and first_mlp(model).c_fc in calls


def test_a_class_that_others_changed_is_left_to_them(monkeypatch):
    monkeypatch.setattr(GPT2MLP, "forward", lambda self, x: 5 * x)
    model = patch(gpt2())
    assert are_fast(model) == [False] * 2
    assert torch.equal(run(first_mlp(model))[0], 5 * HIDDEN)


def test_gradients_run_stock_code():
    gradients = []
    for model in (gpt2(), patch(gpt2())):
        with CallCounter() as calls:
            first_mlp(model)(HIDDEN).square().sum().backward()
        assert calls["linear"] == 0
        gradients.append(first_mlp(model).c_fc.weight.grad)
    assert_close(*gradients)


@torch.no_grad()
def test_autocast():
    stock, model = gpt2(), patch(gpt2())
    with torch.autocast("cpu", torch.bfloat16):
        found, inside = run(first_mlp(model))
        expected = first_mlp(stock)(HIDDEN)
    assert inside == ["gelu_tanh"] and found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_a_compiled_model_has_no_graph_breaks():
    model, graphs = patch(gpt2()), []
    expected = model(IDS).logits

    def backend(graph, _):
        graphs.append(graph.code)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    assert_close(compiled(IDS).logits, expected)
    assert len(graphs) == 1 and graphs[0].count("gelu_tanh") == 2


def test_an_offloaded_layer_keeps_its_hook():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = gpt2(tie_word_embeddings=False)
    expected = run(first_mlp(gpt2(tie_word_embeddings=False)))[0]
    accelerate.cpu_offload(patch(model))
    assert first_mlp(model).c_fc.weight.device.type == "meta"
    assert_close(run(first_mlp(model))[0], expected)
