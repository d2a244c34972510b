"""PEFT adapters on a patched model, and a patch on a model with adapters."""

from __future__ import annotations

import re

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft", reason="peft is not installed")

from hf.checks import assert_close, assert_ran, identities
from hf.models import generate, gpt2, peft_knows_the_cache, positions_of, prompts
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)

from masked_attn.hf import KVCache, patch, paths, unpatch

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
REAL = MASK.bool()
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
WHEN = pytest.mark.parametrize("when", ["adapted-first", "patched-first"])
TASK = {"task_type": TaskType.CAUSAL_LM}
LINEAR = {**TASK, "r": 2, "fan_in_fan_out": True, "init_lora_weights": False}
WEIGHTS = {
    "lora-attention": LoraConfig(target_modules=["c_attn", "attn.c_proj"], **LINEAR),
    "lora-everywhere": LoraConfig(target_modules=["c_attn", "c_proj", "c_fc"], **LINEAR),
    "dora": LoraConfig(target_modules=["c_attn"], use_dora=True, **LINEAR),
    "rank-stabilised": LoraConfig(target_modules=["c_attn"], use_rslora=True, **LINEAR),
    "ia3": IA3Config(
        target_modules=["c_attn", "mlp.c_proj"],
        feedforward_modules=["mlp.c_proj"],
        fan_in_fan_out=True,
        init_ia3_weights=False,
        **TASK,
    ),
}
PROMPTS = {
    "prompt-tuning": PromptTuningConfig(num_virtual_tokens=3, **TASK),
    "prefix-tuning": PrefixTuningConfig(num_virtual_tokens=3, **TASK),
}
ADAPTERS = re.compile("lora_|ia3_|prompt_encoder")
MERGING = ["lora-attention", "lora-everywhere", "dora", "ia3"]


def fill_adapters(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ADAPTERS.search(name):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def adapted(model, config):
    peft_model = get_peft_model(model, config).eval()
    fill_adapters(peft_model, seed=7)
    return peft_model


def patched_and_adapted(config, when):
    if when == "adapted-first":
        return patch(adapted(gpt2(), config))
    return adapted(patch(gpt2()), config)


def run(model, inputs=INPUTS):
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits[:, -7:][REAL]


@WHEN
@pytest.mark.parametrize("kind", WEIGHTS)
def test_adapted_weights(kind, when):
    stock = adapted(gpt2(), WEIGHTS[kind])
    expected, tokens = run(stock), generate(stock, IDS, MASK).sequences
    with stock.disable_adapter():
        plain = run(stock)
    assert (expected - plain).abs().max() > 0.1, "the adapter changes nothing"

    model = patched_and_adapted(WEIGHTS[kind], when)
    assert_close(run(model), expected)
    assert_ran(model, "masked_attention")
    result = generate(model, IDS, MASK)
    assert_ran(model, "cached_attention")
    assert isinstance(result.past_key_values, KVCache)
    assert torch.equal(result.sequences, tokens)
    with model.disable_adapter():
        assert_close(run(model), plain)
    unpatch(model)
    assert paths(model) == {}
    assert torch.equal(run(model), expected)


@WHEN
@pytest.mark.parametrize("kind", MERGING)
def test_merged_weights(kind, when):
    expected = run(adapted(gpt2(), WEIGHTS[kind]))
    merged = patched_and_adapted(WEIGHTS[kind], when).merge_and_unload()
    assert_close(run(merged), expected)
    assert_ran(merged, "masked_attention")
    assert list(merged.state_dict()) == list(gpt2().state_dict())
    unpatch(merged)
    assert not any("masked_attn" in type(m).__module__ for m in merged.modules())
    assert_close(run(merged), expected)


@WHEN
def test_the_order_of_unloading_does_not_matter(when):
    plain = run(gpt2())
    model = patched_and_adapted(WEIGHTS["lora-attention"], when)
    assert_close(run(unpatch(model.unload())), plain)
    model = patched_and_adapted(WEIGHTS["lora-attention"], when)
    assert_close(run(unpatch(model).unload()), plain)


def test_a_patched_model_with_adapters_is_the_identical_one_after_unpatch():
    model = adapted(gpt2(), WEIGHTS["lora-everywhere"])
    before = identities(model)
    run(patch(model))
    assert_ran(model, "masked_attention")
    assert identities(unpatch(model)) == before


def test_a_second_adapter_on_a_patched_model():
    stock, model = (adapted(gpt2(), WEIGHTS["lora-attention"]) for _ in range(2))
    patch(model)
    results = []
    for m in (stock, model):
        m.add_adapter("second", WEIGHTS["lora-everywhere"])
        m.set_adapter("second")
        fill_adapters(m, seed=11)
        results.append(run(m.eval()))
    assert_ran(model, "masked_attention")
    assert_close(*results)


@WHEN
def test_adapters_train_as_without_a_patch(when):
    gradients = []
    config = WEIGHTS["lora-attention"]
    for model in (adapted(gpt2(), config), patched_and_adapted(config, when)):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        model(**INPUTS).logits[REAL].square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert_ran(model, "stock")
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@WHEN
def test_an_adapter_is_saved_as_without_a_patch(when, tmp_path):
    adapted(gpt2(), WEIGHTS["lora-attention"]).save_pretrained(tmp_path / "stock")
    model = patched_and_adapted(WEIGHTS["lora-attention"], when)
    model.save_pretrained(tmp_path / "patched")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        stock_bytes = (tmp_path / "stock" / name).read_bytes()
        assert (tmp_path / "patched" / name).read_bytes() == stock_bytes


@WHEN
@pytest.mark.parametrize("kind", PROMPTS)
def test_learned_prompts(kind, when):
    """Virtual tokens come as embeddings, or as a cache that is filled before the prompt."""
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    stock = adapted(gpt2(), PROMPTS[kind])
    expected = run(stock, inputs)
    assert (expected - run(gpt2(), inputs)).abs().max() > 0.1, "the adapter changes nothing"
    tokens = generate(stock, IDS, MASK, 8).sequences
    model = patched_and_adapted(PROMPTS[kind], when)
    # PEFT takes the positions away, also in generate: stock code then counts pads.
    patch(model, positions_from_mask=False)
    assert_close(run(model, inputs), expected)
    assert_ran(model, "masked_attention")
    result = generate(model, IDS, MASK, 8)
    # PEFT puts its prefix into a DynamicCache, in place of ours.
    if peft_knows_the_cache():
        assert_ran(model, "masked_attention" if kind == "prefix-tuning" else "cached_attention")
    assert torch.equal(result.sequences, tokens)
