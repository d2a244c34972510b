"""Fast linear layers beneath PEFT adapters: the adapter stays, its ``base_layer`` is replaced."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft", reason="peft is not installed")

from hf.checks import assert_close, identities
from hf.models import generate, gpt2, positions_of
from hf.test_fast_linear_model import LAYERS, calls_of, fast_layers, fused, plain
from hf.test_peft import IDS, LINEAR, MASK, WEIGHTS, WHEN, adapted, run
from peft import LoraConfig

from masked_attn.hf import unpatch
from masked_attn.hf.layers.linear import restore_linears

pytestmark = pytest.mark.integration

HEAD = LoraConfig(target_modules=["lm_head"], **{**LINEAR, "fan_in_fan_out": False})
CONFIGS = {**WEIGHTS, "lm-head": HEAD}
# Adapters that are vectors, not linear layers.
NOT_LAYERS = {"ia3"}
KINDS = pytest.mark.parametrize("kind", CONFIGS)


def fused_and_adapted(kind, when):
    if when == "adapted-first":
        return fused(plain(adapted(gpt2(), CONFIGS[kind])))
    return adapted(fused(plain(gpt2())), CONFIGS[kind])


@WHEN
@KINDS
def test_an_adapter_adds_to_a_fast_layer(kind, when):
    stock = adapted(gpt2(), CONFIGS[kind])
    expected, tokens = run(stock), generate(stock, IDS, MASK).sequences
    model = fused_and_adapted(kind, when)
    added = [name for name in fast_layers(model) if ".lora_" in name]
    assert len(fast_layers(model)) == len(LAYERS) + len(added)
    # What an adapter adds are plain layers too, if they were there when the model was patched.
    assert bool(added) == (when == "adapted-first" and kind not in NOT_LAYERS)
    assert any(name.endswith("base_layer") for name in fast_layers(model))
    calls, found = calls_of(run, model)
    assert calls >= len(LAYERS)
    assert_close(found, expected)
    assert torch.equal(generate(model, IDS, MASK).sequences, tokens)
    restore_linears(model)
    assert not fast_layers(model)
    assert torch.equal(run(unpatch(model)), expected)


def test_the_identical_modules_come_back():
    model = adapted(gpt2(), CONFIGS["lora-everywhere"])
    before = identities(model)
    restore_linears(fused(model))
    assert identities(model) == before


@WHEN
@pytest.mark.parametrize("kind", ["lora-everywhere", "dora", "ia3", "lm-head"])
def test_merged_weights(kind, when):
    expected = run(adapted(gpt2(), CONFIGS[kind]).merge_and_unload())
    merged = fused_and_adapted(kind, when).merge_and_unload()
    assert fast_layers(merged) == LAYERS
    assert_close(run(merged), expected)
    restore_linears(merged)
    assert [type(m) for m in unpatch(merged).modules()] == [type(m) for m in gpt2().modules()]
    assert_close(run(merged), expected)


@WHEN
def test_adapters_train_as_without_fast_layers(when):
    gradients = []
    config = CONFIGS["lora-attention"]
    for model in (adapted(gpt2(), config), fused_and_adapted("lora-attention", when)):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        positions = {"position_ids": positions_of(MASK)}
        model(IDS, attention_mask=MASK, **positions).logits.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        assert_close(gradients[1][name], expected)
