"""One forward of a patched model equals stock eager at every real position, whatever the mask."""

from __future__ import annotations

import inspect
from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import STOCK_PARTS, VOCAB, gpt2, positions_of, prompts
from support.calls import CallCounter
from transformers import (
    DynamicCache,
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2Model,
    StaticCache,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from masked_attn.functional import masked_softmax
from masked_attn.hf import KVCache, patch, paths
from masked_attn.hf.attention import textbook

pytestmark = pytest.mark.integration

# Newer transformers refuse what their sdpa does not know, older ones ignore it.
REFUSES = "softcap" in inspect.getsource(sdpa_attention_forward)
IDS, LEFT = prompts([4, 7, 2])
RIGHT_IDS, RIGHT = prompts([4, 7, 2], side="right")
HOLES = LEFT.clone()
HOLES[1, 2:4] = 0
PREFIX = torch.ones(7, 7, dtype=torch.bool).tril().index_fill(1, torch.arange(3), True)
DENSE = {
    "causal": torch.ones(7, 7, dtype=torch.bool).tril(),
    "prefix": PREFIX,
    "random": torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) < 0.5,
}
DENSE["random"].fill_diagonal_(True)
CACHES = {
    "no-cache": lambda config: None,
    "kv-cache": lambda config: KVCache(),
    "dynamic": lambda config: DynamicCache(config=config),
    "static": lambda config: StaticCache(config=config, max_cache_len=12),
}


def logits(model, cache="no-cache", **inputs):
    past = CACHES[cache](model.config)
    with torch.no_grad():
        return model(past_key_values=past, use_cache=past is not None, **inputs).logits


def assert_equal(ours, expected, real=None):
    real = torch.ones(ours.shape[:2], dtype=torch.bool) if real is None else real.bool()
    torch.testing.assert_close(ours[real], expected[real], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("mask", [None, LEFT, RIGHT, HOLES], ids=["none", "left", "right", "holes"])
def test_two_dimensional_masks(mask, cache, fused):
    inputs = {"input_ids": IDS, "attention_mask": mask}
    if mask is not None:
        inputs["position_ids"] = positions_of(mask)
    expected = logits(gpt2(implementation="eager"), cache, **inputs)
    model = patch(gpt2(), fused=fused)
    assert_equal(logits(model, cache, **inputs), expected, mask)
    path = "cached_attention" if cache in ("kv-cache", "static") else "masked_attention"
    if mask is LEFT and cache != "static":  # pads behind a token are read, so attention keeps pads
        path = "packed_attention"
    assert set(paths(model).values()) == {path if fused else "textbook"}


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("cache", ["no-cache", "kv-cache", "dynamic"])
@pytest.mark.parametrize("mask", DENSE)
def test_four_dimensional_masks_say_all(mask, cache, kind, fused):
    seen = DENSE[mask][None, None].expand(3, 1, 7, 7)
    additive = torch.zeros(3, 1, 7, 7).masked_fill(~seen, torch.finfo(torch.float32).min)
    expected = logits(gpt2(implementation="eager"), cache, input_ids=IDS, attention_mask=additive)
    model = patch(gpt2(), fused=fused)
    given = seen if kind == "bool" else additive
    assert_equal(logits(model, cache, input_ids=IDS, attention_mask=given), expected)
    # What a key mask and causality can say is said by them, to the operator that writes the cache.
    in_place = mask == "causal" and cache == "kv-cache"
    path = "cached_attention" if in_place else "masked_attention"
    assert set(paths(model).values()) == {path if fused else "textbook"}


@pytest.mark.parametrize("side", ["left", "right", "holes"])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("filled", [0, 4])
@torch.no_grad()
def test_a_dense_mask_that_says_no_more_than_a_key_mask_has_its_bits(filled, kind, side):
    mask = {"left": LEFT, "right": RIGHT, "holes": HOLES}[side].bool()
    model, results = patch(gpt2()), []
    causal = torch.ones(7, 7, dtype=torch.bool).tril()
    seen = (mask[:, None, None] & causal)[:, :, filled:]
    dense = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    for given in (mask, seen if kind == "bool" else dense):
        cache = KVCache()
        if filled:
            model(IDS[:, :filled], attention_mask=mask[:, :filled], past_key_values=cache)
        inputs = {"position_ids": positions_of(mask)[:, filled:], "past_key_values": cache}
        results.append(model(IDS[:, filled:], attention_mask=given, **inputs).logits)
    # Pads are left out where a mask of two dimensions tells them, and holes with them.
    rows = mask[:, filled:]
    if side == "holes":
        torch.testing.assert_close(results[1][rows], results[0][rows])
    else:
        assert torch.equal(results[1][rows], results[0][rows])


@pytest.mark.parametrize("cache", ["kv-cache", "dynamic", "static"])
def test_chunks_of_a_prompt_equal_the_whole(cache):
    position_ids = positions_of(LEFT)
    expected = logits(gpt2(), input_ids=IDS, attention_mask=LEFT, position_ids=position_ids)
    model, past = patch(gpt2()), CACHES[cache](gpt2().config)
    for start, end in [(0, 3), (3, 4), (4, 7)]:
        chunk = {"input_ids": IDS[:, start:end], "position_ids": position_ids[:, start:end]}
        with torch.no_grad():
            out = model(**chunk, attention_mask=LEFT[:, :end], past_key_values=past)
        assert_equal(out.logits, expected[:, start:end], LEFT[:, start:end])


def test_chunks_without_a_mask_equal_the_whole():
    expected = logits(gpt2(), input_ids=IDS)
    model, past = patch(gpt2()), KVCache()
    with torch.no_grad():
        parts = [model(part, past_key_values=past).logits for part in IDS.split([2, 4, 1], dim=1)]
    assert_equal(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cache", ["no-cache", "dynamic"])
def test_positions_that_jump_are_several_sequences(cache, rows, fused):
    """Only without mask and cache, as in stock code; there a plain causal mask is wrong."""
    position_ids = torch.tensor(
        [[0, 1, 2, 0, 1, 2, 3], [0, 1, 0, 1, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6]]
    )
    inputs = {"input_ids": IDS, "position_ids": position_ids[:rows]}
    expected = logits(gpt2(implementation="eager"), cache, **inputs)
    model = patch(gpt2(), fused=fused)
    assert_equal(logits(model, cache, **inputs), expected)
    assert set(paths(model).values()) == {"masked_attention" if fused else "textbook"}


@pytest.mark.parametrize("name", ["short-mask", "mask-of-ints-4d"])
def test_what_is_not_understood_runs_the_stock_code(name):
    inputs = {
        "short-mask": {"input_ids": IDS, "attention_mask": LEFT[:, :5]},
        "mask-of-ints-4d": {"input_ids": IDS, "attention_mask": PREFIX.long()[None, None]},
    }[name]
    results, models = [], [gpt2(implementation="eager") for _ in range(2)]
    patch(models[1], **STOCK_PARTS)
    for model in models:
        try:
            results.append(logits(model, **inputs))
        except Exception as error:
            results.append(type(error))
    if isinstance(results[0], type):
        assert results[0] is results[1]
    else:
        assert torch.equal(*results)
    assert set(paths(models[1]).values()) == {"stock"}


@pytest.mark.parametrize("cache", ["kv-cache", "dynamic"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
def test_one_query_with_a_four_dimensional_bias(cache, fused):
    bias = torch.randn(3, 2, 1, 7, generator=torch.Generator().manual_seed(4))
    results = []
    for model in (gpt2(implementation="eager"), patch(gpt2(), fused=fused)):
        past = CACHES[cache](model.config)
        with torch.no_grad():
            model(IDS[:, :6], past_key_values=past)
            results.append(model(IDS[:, 6:], past_key_values=past, attention_mask=bias).logits)
    assert_equal(results[1], results[0])
    if fused:
        path = "cached_attention" if cache == "kv-cache" else "masked_attention"
        assert set(paths(model).values()) == {path}


def test_bidirectional_config_runs_the_stock_code():
    inputs = {"input_ids": IDS, "attention_mask": LEFT, "position_ids": positions_of(LEFT)}
    expected = logits(gpt2(is_causal=False), **inputs)
    model = patch(gpt2(is_causal=False), **STOCK_PARTS)
    assert torch.equal(logits(model, **inputs), expected)
    assert set(paths(model).values()) == {"stock"}


@pytest.mark.parametrize("name", ["position_bias", "softcap", "s_aux"])
def test_keywords_of_other_attentions_reach_the_stock_code(name):
    model, seen = patch(gpt2(), **STOCK_PARTS), []
    layer = model.transformer.h[0].attn
    layer.register_forward_pre_hook(lambda m, a, kw: seen.append(kw.get(name)), with_kwargs=True)
    extra = torch.zeros(1, 2, 7, 7)
    with pytest.raises(ValueError, match=name) if name == "softcap" and REFUSES else nullcontext():
        logits(model, input_ids=IDS, **{name: extra})
    assert seen == [extra]
    assert set(paths(model).values()) == {"stock"}


def test_upcast_computes_scores_in_float32(monkeypatch):
    dtypes = []

    def recording(scores, **masks):
        dtypes.append(scores.dtype)
        return masked_softmax(scores, **masks)

    monkeypatch.setattr(textbook, "masked_softmax", recording)
    for upcast in (True, False):
        model = gpt2(reorder_and_upcast_attn=upcast).to(torch.bfloat16)
        logits(patch(model, fused=False), input_ids=IDS, attention_mask=LEFT)
    assert dtypes == [torch.float32] * 2 + [torch.bfloat16] * 2


def test_upcasting_never_makes_numbers_smaller():
    model = gpt2(reorder_and_upcast_attn=True, implementation="eager").double()
    inputs = {"input_ids": IDS, "attention_mask": LEFT, "position_ids": positions_of(LEFT)}
    expected = logits(gpt2(implementation="eager").double(), **inputs)
    ours = logits(patch(model, fused=False), **inputs)
    torch.testing.assert_close(ours[LEFT.bool()], expected[LEFT.bool()], atol=1e-12, rtol=1e-12)


def test_upcasting_holds_in_a_region_of_autocast(monkeypatch):
    dtypes = []
    softmax = textbook.masked_softmax
    record = lambda scores, **more: dtypes.append(scores.dtype) or softmax(scores, **more)  # noqa: E731
    monkeypatch.setattr(textbook, "masked_softmax", record)
    model = patch(gpt2(reorder_and_upcast_attn=True), fused=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits(model, input_ids=IDS, attention_mask=LEFT)
    assert set(dtypes) == {torch.float32}


def test_too_many_arguments_are_an_error_as_in_stock():
    for model in (gpt2(), patch(gpt2())):
        with pytest.raises(TypeError, match="multiple values"):
            model.transformer(IDS, input_ids=IDS)


def test_other_models_with_a_gpt2_inside():
    for model_class in (GPT2Model, GPT2ForSequenceClassification):
        stock = gpt2(model_class=model_class, implementation="eager")
        model = patch(gpt2(model_class=model_class))
        with torch.no_grad():
            expected, ours = (m(RIGHT_IDS, attention_mask=RIGHT)[0] for m in (stock, model))
        real = RIGHT if model_class is GPT2Model else None
        assert_equal(
            ours[:, None] if ours.ndim == 2 else ours,
            expected[:, None] if ours.ndim == 2 else expected,
            real,
        )
        assert set(paths(model).values()) == {"masked_attention"}


def test_double_heads_flattens_its_choices():
    stock = gpt2(model_class=GPT2DoubleHeadsModel, implementation="eager", summary_type="cls_index")
    model = patch(gpt2(model_class=GPT2DoubleHeadsModel, summary_type="cls_index"))
    inputs = {
        "input_ids": torch.stack([IDS, IDS.flip(0)], dim=1),
        "attention_mask": torch.stack([RIGHT, RIGHT.flip(0)], dim=1),
        "mc_token_ids": torch.ones(3, 2, dtype=torch.long),
    }
    with torch.no_grad():
        expected, ours = stock(**inputs), model(**inputs)
    torch.testing.assert_close(ours.mc_logits, expected.mc_logits, atol=2e-4, rtol=1e-4)
    assert set(paths(model).values()) == {"masked_attention"}


def test_transformer_and_layer_called_directly():
    stock, model = gpt2(implementation="eager"), patch(gpt2())
    positional = (IDS, None, LEFT, None, positions_of(LEFT))
    with torch.no_grad():
        expected = stock.transformer(*positional).last_hidden_state
        assert_equal(model.transformer(*positional).last_hidden_state, expected, LEFT)
        hidden = torch.randn(2, 5, 32)
        alone = [m.transformer.h[0].attn(hidden)[0] for m in (gpt2(), model)]
    torch.testing.assert_close(*alone, atol=1e-5, rtol=1e-5)


def test_token_types_and_embeddings():
    stock, model = gpt2(implementation="eager"), patch(gpt2())
    embeds = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(2))
    types = torch.randint(0, VOCAB, (3, 7), generator=torch.Generator().manual_seed(2))
    inputs = {"inputs_embeds": embeds, "token_type_ids": types, "attention_mask": LEFT}
    inputs["position_ids"] = positions_of(LEFT)
    assert_equal(logits(model, **inputs), logits(stock, **inputs), LEFT)


def test_operator_calls_by_path():
    def count(fused, **inputs):
        with CallCounter() as calls:
            model = patch(gpt2(), fused=fused, padding_free=False, fast_linear=False)
            logits(model, input_ids=IDS, attention_mask=LEFT, **inputs)
        return dict(calls.counts)

    assert count(True) == {"masked_attention": 2}
    assert count(True, cache="kv-cache") == {"cached_attention": 2}
    assert count(True, cache="static") == {"cached_attention": 2}
    assert count(False) == {"expand_mask": 2, "masked_softmax": 2}
    assert count(False, cache="kv-cache") == {"expand_mask": 2, "masked_softmax": 2}
    assert count(True, output_attentions=True) == {"expand_mask": 2, "masked_softmax": 2}
