"""Hooks of others stay, fire and have effect; where they may touch masks, stock code makes them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from hf.checks import assert_close, assert_ran, identities
from hf.models import generate, gpt2, positions_of, prompts

from masked_attn.hf import patch, paths, unpatch

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
REAL = MASK.bool()
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
FUSED, STOCK = "masked_attention", "stock"


def run(model):
    with torch.no_grad():
        return model(**INPUTS, use_cache=False).logits[REAL]


def first_block(model):
    return model.transformer.h[0]


def louder(module, args):
    return (args[0] * 1.5, *args[1:])


def louder_output(module, args, output):
    return (output[0] * 1.5, *output[1:]) if isinstance(output, tuple) else output * 1.5


def louder_keyword(module, args, kwargs):
    return (args[0] * 1.5, *args[1:]), kwargs


def hide_first_keys(module, args, kwargs):
    hidden = torch.ones(3, 1, 7, 7, dtype=torch.bool).tril()
    hidden[..., :5] = False
    return args, {**kwargs, "attention_mask": hidden & REAL[:, None, None]}


def hide_in_place(module, args, kwargs):
    kwargs["attention_mask"][:, :, :, :5] = False


def hide_in_block(module, args):
    seen = args[2].clone()
    seen[:, :, :, :5] = False
    return (*args[:2], seen, *args[3:])


def read_keyword(module, args, kwargs, output):
    assert kwargs["attention_mask"].shape == (3, 1, 7, 7)
    return louder_output(module, args, output)


HOOKS = {
    "attn-pre": (lambda b: b.attn.register_forward_pre_hook(louder), FUSED),
    "attn-forward": (lambda b: b.attn.register_forward_hook(louder_output), FUSED),
    "block-forward": (lambda b: b.register_forward_hook(louder_output), FUSED),
    "linear-pre": (lambda b: b.attn.c_attn.register_forward_pre_hook(louder), FUSED),
    "linear-forward": (lambda b: b.attn.c_proj.register_forward_hook(louder_output), FUSED),
    "mlp-forward": (lambda b: b.mlp.register_forward_hook(louder_output), FUSED),
    "block-pre": (lambda b: b.register_forward_pre_hook(louder), STOCK),
    "attn-pre-keywords": (
        lambda b: b.attn.register_forward_pre_hook(louder_keyword, with_kwargs=True),
        STOCK,
    ),
    "attn-forward-keywords": (
        lambda b: b.attn.register_forward_hook(read_keyword, with_kwargs=True),
        STOCK,
    ),
    "mask-replaced": (
        lambda b: b.attn.register_forward_pre_hook(hide_first_keys, with_kwargs=True),
        STOCK,
    ),
    "mask-in-place": (
        lambda b: b.attn.register_forward_pre_hook(hide_in_place, with_kwargs=True),
        STOCK,
    ),
    "mask-of-block": (lambda b: b.register_forward_pre_hook(hide_in_block), STOCK),
}


@pytest.mark.parametrize("when", ["hooked-first", "patched-first"])
@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_the_effect_that_it_has_on_stock(name, when):
    register, path = HOOKS[name]
    stock = gpt2()
    plain = run(stock)
    register(first_block(stock))
    expected = run(stock)
    assert (expected - plain).abs().max() > 0.1, "the hook changes nothing"

    model = gpt2() if when == "hooked-first" else patch(gpt2())
    handle = register(first_block(model))
    patch(model)
    assert_close(run(model), expected)
    assert_ran(model, path)

    handle.remove()
    assert_close(run(model), plain)
    assert_ran(model, FUSED)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_outlives_unpatch(name):
    register, _ = HOOKS[name]
    stock, model = gpt2(), patch(gpt2())
    register(first_block(stock))
    handle = register(first_block(model))
    unpatch(model)
    assert torch.equal(run(model), run(stock))
    handle.remove()
    assert torch.equal(run(model), run(gpt2()))


def test_hooks_fire_once_for_each_step_of_generate():
    model, calls = gpt2(), []
    block = first_block(model)
    block.attn.register_forward_pre_hook(lambda *_: calls.append("pre"))
    patch(model)
    block.attn.register_forward_hook(lambda *_: calls.append("forward"))
    block.register_forward_hook(lambda *_: calls.append("block"))
    generate(model, IDS, MASK, 3)
    assert_ran(model, "cached_attention")
    assert calls == ["pre", "forward", "block"] * 3


def test_a_recorder_sees_what_it_sees_on_stock():
    seen = []
    for model in (gpt2(), patch(gpt2())):
        record = lambda module, args, output: seen.append((args, output))  # noqa: E731
        first_block(model).attn.register_forward_hook(record)
        run(model)
    assert_ran(model, FUSED)
    (stock_args, stock_output), (args, output) = seen
    assert_close(args[0][REAL], stock_args[0][REAL])
    assert_close(output[0][REAL], stock_output[0][REAL])
    assert output[1] is stock_output[1] is None


def test_a_global_hook_that_replaces_the_mask_has_effect():
    def hide(module, args):
        if type(module).__name__ != "GPT2Block":
            return None
        seen = hide_first_keys(module, args, {})[1]["attention_mask"]
        return (*args[:2], seen, *args[3:])

    plain, model = run(gpt2()), patch(gpt2())
    handle = nn.modules.module.register_module_forward_pre_hook(hide)
    try:
        expected, ours = run(gpt2()), run(model)
    finally:
        handle.remove()
    assert (expected - plain).abs().max() > 0.1
    assert_ran(model, STOCK)
    assert_close(ours, expected)


def test_backward_hooks_fire():
    model, gradients = patch(gpt2()), []
    attention = first_block(model).attn
    attention.register_full_backward_hook(lambda module, into, out: gradients.append(out[0]))
    model(**INPUTS).logits[REAL].sum().backward()
    assert len(gradients) == 1 and gradients[0].abs().sum() > 0
    assert_ran(model, STOCK)


def wrapped_forward(module):
    inner = module.forward

    def forward(*args, **kwargs):
        return louder_output(module, args, inner(*args, **kwargs))

    return forward


@pytest.mark.parametrize("place", ["attn", "block"])
def test_a_forward_that_is_replaced_after_patch_has_effect(place):
    expected = []
    for model in (gpt2(), patch(gpt2())):
        module = first_block(model) if place == "block" else first_block(model).attn
        module.forward = wrapped_forward(module)
        expected.append(run(model))
    assert_ran(model, STOCK)
    assert_close(*expected)
    unpatch(model)
    assert paths(model) == {}
    assert torch.equal(run(model), expected[0])


def test_attention_with_a_replaced_forward_is_refused_by_name():
    model = gpt2()
    attention = first_block(model).attn
    attention.forward = wrapped_forward(attention)
    before = identities(model)
    with pytest.raises(
        TypeError, match=r"layer 0: forward of its attn was replaced by.*wrapped_forward"
    ):
        patch(model)
    assert identities(model) == before
    del attention.forward
    run(patch(model))
    assert_ran(model, FUSED)
