"""attn_implementation="masked_attn" equals stock for GPT-2 and other models on the interface."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import PAD, VOCAB, fill, generate, generate_alone, gpt2, prompts
from hf.tokens import assert_same_as_alone, assert_same_tokens, assert_varied
from support.calls import CallCounter
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    StaticCache,
)

from masked_attn.hf import KVCache, register_attention
from masked_attn.hf.attention import interface as attention_interface

pytestmark = pytest.mark.integration

LENGTHS = [5, 9, 3]
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": PAD,
}


def llama(implementation):
    return build(LlamaForCausalLM, LlamaConfig(**SIZES), implementation)


def mistral(implementation, window=4):
    config = MistralConfig(**SIZES, sliding_window=window)
    return build(MistralForCausalLM, config, implementation)


def wide_mistral(implementation):
    return mistral(implementation, window=32)


def gemma2(implementation):
    config = Gemma2Config(**SIZES, sliding_window=4, attn_logit_softcapping=None)
    return build(Gemma2ForCausalLM, config, implementation)


def build(model_class, config, implementation):
    config._attn_implementation = implementation
    model = model_class(config).eval()
    fill(model, seed=1, std=0.3)
    return model


def gpt2_on(implementation):
    return gpt2(implementation=implementation)


MODELS = [gpt2_on, llama, mistral, gemma2]
MODES = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "static": {"cache_implementation": "static"},
    "static-beams": {"cache_implementation": "static", "num_beams": 2},
    "no-cache": {"use_cache": False},
    "chunked": {"prefill_chunk_size": 4},
    "kv-cache": {"past_key_values": KVCache},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", MODELS)
def test_padded_generation_equals_stock(make, mode):
    settings = dict(MODES[mode])
    ids, mask = prompts(LENGTHS)
    results = []
    for implementation in ("eager", "masked_attn"):
        if "past_key_values" in settings:
            settings["past_key_values"] = KVCache()
        with CallCounter() as calls:
            results.append(generate(make(implementation), ids, mask, 12, **settings))
    assert calls["masked_attention"] == 2 * (12 if mode != "chunked" else 14)
    if "num_beams" in settings:
        assert torch.equal(results[0].sequences, results[1].sequences)
    else:
        assert_same_tokens(results[1], results[0])


@pytest.mark.parametrize("make", [gpt2_on, llama])
def test_padded_generation_equals_each_prompt_alone(make):
    ids, mask = prompts(LENGTHS)
    result = generate(make("masked_attn"), ids, mask)
    assert_varied(result)
    assert_same_as_alone(result, generate_alone(make("eager"), ids, mask))


@pytest.mark.parametrize("kind", ["right", "holes", "none", "short", "4d-bool", "4d-float"])
@pytest.mark.parametrize("make", MODELS[:2])
def test_masks_of_one_forward_equal_stock(make, kind):
    lengths = [9, 9] if kind in ("none", "short") else LENGTHS
    ids, mask = prompts(lengths, side="right" if kind == "right" else "left")
    real = mask.bool()
    if kind == "holes":
        mask[1, 3:5] = 0
    given = {"none": None, "short": mask[:, :6]}.get(kind, mask)
    if kind.startswith("4d"):
        dense = torch.ones(9, 9, dtype=torch.bool).tril() & mask.bool()[:, None, None]
        dense |= torch.eye(9, dtype=torch.bool)
        given = torch.zeros(dense.shape).masked_fill(~dense, torch.finfo(torch.float32).min)
    with torch.no_grad():
        expected = make("eager")(ids, attention_mask=given).logits
        given = dense if kind == "4d-bool" else given
        ours = make("masked_attn")(ids, attention_mask=given).logits
    torch.testing.assert_close(ours[real], expected[real], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", [1, 4])
@pytest.mark.parametrize("make", [gpt2_on, llama, mistral, wide_mistral])
def test_static_cache_without_a_mask(make, prompt):
    ids, _ = prompts([9, 9])
    results = []
    for implementation in ("eager", "masked_attn"):
        model = make(implementation)
        cache = StaticCache(config=model.config, max_cache_len=12)
        with torch.no_grad():
            parts = [
                model(x, past_key_values=cache).logits
                for x in ids.split([prompt, 3, 5 - prompt + 1], 1)
            ]
        results.append(torch.cat(parts, dim=1))
    torch.testing.assert_close(results[1], results[0], atol=2e-4, rtol=1e-4)


def test_bidirectional_model():
    sizes = {k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "head_dim")}
    ids, mask = prompts(LENGTHS, side="right")
    outputs = []
    for implementation in ("eager", "masked_attn"):
        model = build(BertModel, BertConfig(**sizes), implementation)
        with torch.no_grad(), CallCounter() as calls:
            padded = model(ids, attention_mask=mask)[0][mask.bool()]
            outputs.append([padded, model(ids)[0]])
    torch.testing.assert_close(outputs[1], outputs[0], atol=2e-4, rtol=1e-4)
    assert calls["masked_attention"] == 4


@pytest.mark.parametrize("make", [gpt2_on, llama])
def test_output_attentions_equal_stock_eager(make):
    ids, mask = prompts(LENGTHS)
    with torch.no_grad():
        expected = make("eager")(ids, attention_mask=mask, output_attentions=True).attentions
        with CallCounter() as calls:
            ours = make("masked_attn")(ids, attention_mask=mask, output_attentions=True).attentions
    assert calls.counts == {"expand_mask": 2, "masked_softmax": 2}
    rows = mask.bool()[:, None].expand(ours[0].shape[:3])
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a[rows], b[rows], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [gpt2_on, llama, mistral])
def test_gradients_equal_stock(make):
    ids, mask = prompts(LENGTHS)
    grads = []
    for implementation in ("sdpa", "masked_attn"):
        model = make(implementation)
        labels = ids.masked_fill(mask == 0, -100)
        model(ids, attention_mask=mask, labels=labels).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[1], grads[0], atol=1e-5, rtol=1e-4)


def test_dropout_runs_the_stock_code():
    ids, mask = prompts(LENGTHS)
    results = []
    for implementation in ("sdpa", "masked_attn"):
        model = gpt2(implementation=implementation, attn_pdrop=0.5).train()
        torch.manual_seed(4)
        with torch.no_grad():
            results.append(model(ids, attention_mask=mask).logits[mask.bool()])
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-4)


def test_set_attn_implementation_on_a_loaded_model():
    ids, mask = prompts(LENGTHS)
    model = gpt2()
    expected = generate(model, ids, mask, 6)
    model.set_attn_implementation("masked_attn")
    with CallCounter() as calls:
        assert_same_tokens(generate(model, ids, mask, 6), expected)
    assert calls["masked_attention"] == 12


@pytest.mark.parametrize("name", ["sinks", "item-53-head_mask", "cache"])
def test_arguments_that_change_the_result_are_refused(name):
    q = torch.randn(1, 2, 3, 4)
    extra = {name.removeprefix("item-53-"): torch.ones(2)}
    with pytest.raises(ValueError, match=f'does not support {next(iter(extra))}.*"eager"'):
        attention_interface.attention_forward(torch.nn.Module(), q, q, q, None, **extra)


@pytest.mark.parametrize("times", [pytest.param(2, id="item-51-registered")])
def test_both_functions_are_registered(times):
    for _ in range(times):
        register_attention()
    assert AttentionInterface()["masked_attn"] is attention_interface.attention_forward
    assert AttentionMaskInterface()["masked_attn"] is attention_interface.make_mask


@pytest.mark.parametrize("tokens", [pytest.param(6, id="item-51-mask-function-is-called")])
def test_mask_function_is_called_once_per_forward(tokens, monkeypatch):
    calls = []

    def counting(**kwargs):
        calls.append(kwargs["attention_mask"])
        return attention_interface.make_mask(**kwargs)

    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "masked_attn", counting)
    ids, mask = prompts(LENGTHS)
    result = generate(gpt2_on("masked_attn"), ids, mask, tokens)
    assert len(calls) == tokens
    assert all(m.shape == (3, 9 + step) for step, m in enumerate(calls))
    assert_same_tokens(result, generate(gpt2_on("sdpa"), ids, mask, tokens))


def test_load_with_the_name(tmp_path):
    gpt2().save_pretrained(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path, attn_implementation="masked_attn").eval()
    ids, mask = prompts(LENGTHS)
    assert_same_tokens(generate(model, ids, mask, 6), generate(gpt2(), ids, mask, 6))
