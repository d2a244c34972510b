"""Fast linear layers in whole models: tokens, names, copies, what others did, and the way back."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from support.calls import CallCounter
from torch import nn
from torch.nn.utils import parametrize, prune

pytest.importorskip("transformers")

from hf.checks import assert_close, identities
from hf.heads import buildable, encoder_decoder
from hf.models import generate, gpt2, prompts
from hf.tokens import assert_same_tokens, assert_varied
from transformers import GPT2DoubleHeadsModel, GPT2Model
from transformers.pytorch_utils import Conv1D

from masked_attn.hf import patch, unpatch
from masked_attn.hf.families.finding import backbone_inside
from masked_attn.hf.instance.forward_slot import forward_slot
from masked_attn.hf.layers.linear import FastForward, fuse_linears, restore_linears

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
BLOCK = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
LAYERS = [*(f"transformer.h.{number}.{name}" for number in (0, 1) for name in BLOCK), "lm_head"]


def fused(model):
    fuse_linears(model, backbone_inside(model)[1])
    return model


def plain(model):
    """Patched without the level that is looked at here."""
    return patch(model, fast_linear=False)


def fast_layers(model):
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module.__dict__.get(forward_slot(module)), FastForward)
    ]


def logits(model):
    with torch.no_grad():
        return model(IDS, attention_mask=MASK).logits


def calls_of(function, *args):
    with CallCounter() as calls:
        result = function(*args)
    return calls["linear"], result


def test_generated_tokens_are_stocks():
    expected = generate(gpt2(), IDS, MASK)
    model = fused(plain(gpt2()))
    calls, found = calls_of(generate, model, IDS, MASK)
    assert calls == len(found.logits) * len(LAYERS)
    assert_same_tokens(found, expected)
    assert_varied(found)
    restore_linears(model)
    assert calls_of(generate, model, IDS, MASK)[0] == 0


def test_a_long_prompt():
    ids, mask = prompts([30, 25])
    model = fused(plain(gpt2()))
    calls, found = calls_of(generate, model, ids, mask, 4)
    assert calls == 4 * len(LAYERS)
    assert_same_tokens(found, generate(gpt2(), ids, mask, 4))


def test_training_steps_are_stocks():
    stock, model = gpt2(), fused(plain(gpt2()))
    for m in (stock, model):
        m(IDS, labels=IDS).loss.backward()
    for found, expected in zip(model.parameters(), stock.parameters(), strict=True):
        assert_close(found.grad, expected.grad)


def test_names_ties_and_checkpoints_stay(tmp_path):
    stock, model = gpt2(), fused(gpt2())
    assert fast_layers(model) == LAYERS
    assert list(model.state_dict()) == list(stock.state_dict())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in stock.named_parameters()]
    model.tie_weights()
    model.to(torch.float64)
    assert model.lm_head.weight is model.transformer.wte.weight
    for name, m in (("ours", model), ("stock", stock.to(torch.float64))):
        m.save_pretrained(tmp_path / name)
    for file in ("model.safetensors", "config.json"):
        ours, theirs = ((tmp_path / name / file).read_bytes() for name in ("ours", "stock"))
        assert ours == theirs
    assert torch.equal(logits(type(stock).from_pretrained(tmp_path / "ours")), logits(stock))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_fast_and_can_be_restored(copied):
    model = fused(plain(gpt2()))
    twin = copied(model)
    expected = generate(model, IDS, MASK).sequences
    assert fast_layers(twin) == LAYERS
    assert twin.lm_head.weight is twin.transformer.wte.weight
    assert twin.lm_head.weight is not model.lm_head.weight
    calls, found = calls_of(generate, twin, IDS, MASK)
    assert calls > 0 and torch.equal(found.sequences, expected)
    restore_linears(twin)
    assert fast_layers(model) == LAYERS
    assert [type(m) for m in unpatch(twin).modules()] == [type(m) for m in gpt2().modules()]
    assert twin.lm_head.weight is twin.transformer.wte.weight
    assert torch.equal(logits(twin), logits(gpt2()))


@pytest.mark.parametrize("order", [(plain, fused), (fused, patch)])
def test_the_identical_modules_come_back(order):
    model = gpt2(add_cross_attention=True)
    before = identities(model)
    for step in (*order, *order):  # twice is once
        step(model)
    assert len(fast_layers(model)) == len(LAYERS) + 2 * 3  # and q_attn, c_attn, c_proj
    changed = nn.Parameter(torch.ones(96))
    model.transformer.h[0].attn.c_attn.bias = changed
    for step in (unpatch, restore_linears) if order[0] is plain else (restore_linears, unpatch):
        step(model)
    after = identities(model)
    assert [(n, id(m)) for n, m, _ in after] == [(n, id(m)) for n, m, _ in before]
    assert [now.keys() for *_, now in after] == [then.keys() for *_, then in before]
    assert model.transformer.h[0].attn.c_attn.bias is changed


def test_memory_is_given_back_without_the_garbage_collector():
    model = fused(gpt2())
    weight = weakref.ref(model.transformer.h[0].mlp.c_fc.weight)
    gc.collect()
    gc.disable()
    try:
        del model
        assert weight() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("model_class", [GPT2Model, GPT2DoubleHeadsModel])
def test_other_heads(model_class):
    model = fused(gpt2(model_class=model_class))
    prefix = "" if model_class is GPT2Model else "transformer."
    expected = [name.replace("transformer.", prefix) for name in LAYERS]
    if model_class is GPT2Model:
        expected = expected[:-1]
    else:
        expected.append("multiple_choice_head.summary")
    assert fast_layers(model) == expected


@pytest.mark.skipif(not buildable("encoder-decoder"), reason="transformers cannot build it")
def test_a_decoder_of_another_model():
    model = fused(encoder_decoder())
    assert len(fast_layers(model)) == len(LAYERS) + 2 * 3
    assert all(name.startswith("decoder.") for name in fast_layers(model))


def test_hooks_stay_and_fire():
    model = gpt2()
    layers = [model.transformer.h[0].mlp.c_fc, model.lm_head]
    handles = [
        layer.register_forward_hook(lambda module, args, out: 2 * out) for layer in layers
    ] + [layers[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))]
    expected = logits(model)
    calls, found = calls_of(logits, fused(model))
    assert calls == len(LAYERS) and (found - logits(gpt2())).abs().max() > 1
    assert_close(found, expected)
    for handle in handles:
        handle.remove()
    assert_close(logits(model), logits(gpt2()))


@pytest.mark.parametrize("when", ["hooked-first", "fused-first"])
def test_hooks_of_accelerate_stay_and_move_weights(when):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = gpt2(tie_word_embeddings=False)
    expected = logits(model)
    for step in ("fuse", "hook") if when == "fused-first" else ("hook", "fuse"):
        fused(model) if step == "fuse" else accelerate.cpu_offload(model)
    assert fast_layers(model) == LAYERS
    assert model.lm_head.weight.device.type == "meta"
    calls, found = calls_of(logits, model)
    assert calls == len(LAYERS)
    assert_close(found, expected)
    restore_linears(model)
    calls, found = calls_of(logits, model)
    assert calls == 0 and torch.equal(found, expected)


def test_what_others_replaced_is_left_to_them():
    model = gpt2()
    block = model.transformer.h[0]
    block.mlp.c_fc.forward = lambda x: x.new_zeros(*x.shape[:-1], 128)
    parametrize.register_parametrization(block.attn.c_attn, "weight", nn.Hardtanh(-0.1, 0.1))
    model.lm_head = type("Head", (nn.Linear,), {})(32, 101, bias=False)
    expected, before = logits(model), identities(model)
    others = ("transformer.h.0.mlp.c_fc", "transformer.h.0.attn.c_attn", "lm_head")
    assert fast_layers(fused(model)) == [name for name in LAYERS if name not in others]
    assert_close(logits(model), expected)
    restore_linears(model)
    assert identities(model) == before


def test_a_class_that_others_changed_is_left_to_them(monkeypatch):
    monkeypatch.setattr(Conv1D, "forward", lambda self, x: x.new_zeros(*x.shape[:-1], self.nf))
    model = gpt2()
    expected = logits(model)
    assert fast_layers(fused(model)) == ["lm_head"]
    assert_close(logits(model), expected)


def test_what_others_do_later_has_effect():
    models = gpt2(), fused(gpt2())
    for model in models:
        first, second = model.transformer.h
        parametrize.register_parametrization(first.attn.c_attn, "weight", nn.Hardtanh(-0.1, 0.1))
        prune.random_unstructured(second.mlp.c_proj, "bias", 1.0)
        model.resize_token_embeddings(120)
        with torch.no_grad():
            model.transformer.wte.weight[101:] = 0
    assert_close(logits(models[1]), logits(models[0]))
    assert "transformer.h.0.attn.c_attn" in fast_layers(models[1])
    assert_close(logits(models[1]), logits(models[0]))
    parametrize.remove_parametrizations(models[1].transformer.h[0].attn.c_attn, "weight")
    restore_linears(models[1])
    assert not fast_layers(models[1])
    assert_close(logits(models[1]), logits(models[0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_head_stays():
    model = torch.ao.quantization.quantize_dynamic(gpt2(), {nn.Linear}, dtype=torch.qint8)
    expected, kind = logits(model), type(model.lm_head)
    assert fast_layers(fused(model)) == LAYERS[:-1]
    assert_close(logits(model), expected)
    restore_linears(model)
    assert type(model.lm_head) is kind and kind is not nn.Linear
