"""Attention weights, hidden states, gradients, dropout and cross attention of a patched model."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import STOCK_PARTS, VOCAB, generate, gpt2, positions_of, prompts
from support.calls import CallCounter

from masked_attn.hf import KVCache, patch, paths

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
REAL = MASK.bool()


def close(ours, expected):
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


def trains(model):
    return model.train(False).requires_grad_(True)


@pytest.mark.parametrize(
    "grad", [pytest.param(False, id="item-53-no-grad"), pytest.param(True, id="item-53-grad")]
)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("cache", [None, KVCache])
def test_output_attentions_equal_stock_eager(cache, fused, grad):
    expected = gpt2(implementation="eager")(**INPUTS, output_attentions=True)
    model = patch(gpt2(), fused=fused)
    past = cache() if cache else None
    with torch.set_grad_enabled(grad):
        out = model(**INPUTS, output_attentions=True, past_key_values=past)
    assert len(out.attentions) == len(expected.attentions) == 2
    for ours, theirs in zip(out.attentions, expected.attentions, strict=True):
        rows = REAL[:, None].expand(ours.shape[:3])
        close(ours[rows], theirs[rows])
        assert not ours[rows].masked_select(~REAL[:, None, None].expand(ours.shape)[rows]).any()
    close(out.logits[REAL], expected.logits[REAL])


def test_output_attentions_from_the_config_and_during_generate():
    ids, mask = prompts([3, 5])
    stock, model = gpt2(implementation="eager"), patch(gpt2())
    expected = generate(stock, ids, mask, 4, output_attentions=True)
    result = generate(model, ids, mask, 4, output_attentions=True)
    for ours, theirs in zip(result.attentions, expected.attentions, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            close(a[:, :, -1], b[:, :, -1])

    by_config = patch(gpt2(implementation="eager", output_attentions=True))
    with torch.no_grad():
        assert len(by_config(**INPUTS).attentions) == 2
    assert set(paths(by_config).values()) == {"textbook"}


def test_hidden_states_equal_stock():
    with torch.no_grad():
        expected = gpt2(implementation="eager")(**INPUTS, output_hidden_states=True).hidden_states
        ours = patch(gpt2())(**INPUTS, output_hidden_states=True).hidden_states
    assert len(ours) == len(expected) == 3
    for a, b in zip(ours, expected, strict=True):
        close(a[REAL], b[REAL])


def test_hooks_see_the_patched_layers():
    seen = []
    model = gpt2()
    model.transformer.h[0].attn.register_forward_hook(lambda m, args, out: seen.append("before"))
    patch(model)
    model.transformer.h[1].attn.register_forward_hook(lambda m, args, out: seen.append("after"))
    with torch.no_grad():
        model(**INPUTS)
        assert seen == ["before", "after"]
        patch(model)(**INPUTS)
    assert seen == ["before", "after"] * 2


def test_gradients_equal_stock():
    levels = {"padding_free": False, **STOCK_PARTS}
    stock, model = trains(gpt2()), patch(trains(gpt2()), **levels)
    with CallCounter() as calls:
        for m in (stock, model):
            m(**INPUTS, labels=IDS.masked_fill(~REAL, -100)).loss.backward()
    assert not calls.counts
    assert set(paths(model).values()) == {"stock"}
    for (name, a), b in zip(model.named_parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_gradients_through_the_embeddings_only():
    grads = []
    for m in (gpt2(), patch(gpt2())):
        m.requires_grad_(False)
        embeds = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
        embeds.requires_grad_()
        m.transformer.drop.register_forward_hook(lambda mod, args, out: out * 1.0)
        inputs = {**INPUTS, "input_ids": None, "inputs_embeds": embeds}
        m(**inputs).logits[REAL].square().sum().backward()
        grads.append(embeds.grad)
    torch.testing.assert_close(*grads)


def start_gradients(model):
    """Hidden states require grad from here on although no parameter does."""
    leaves = []

    def start(module, args, out):
        leaves.append(out.detach().requires_grad_())
        return leaves[-1]

    model.requires_grad_(False)
    return leaves, model.transformer.drop.register_forward_hook(start)


def test_gradients_that_start_inside_the_model():
    grads = []
    for m in (gpt2(), patch(gpt2())):
        leaves, _ = start_gradients(m)
        m(**INPUTS, past_key_values=KVCache()).logits[REAL].square().sum().backward()
        grads.append(leaves[0].grad)
    close(grads[0][REAL], grads[1][REAL])


@pytest.mark.parametrize("seen", [4, 6])
def test_gradients_that_come_out_of_the_cache(seen):
    grads = []
    for m in (gpt2(), patch(gpt2())):
        leaves, hook = start_gradients(m)
        cache = KVCache()
        m(IDS[:, :seen], past_key_values=cache)
        hook.remove()
        m(IDS[:, seen:], past_key_values=cache).logits.square().sum().backward()
        grads.append(leaves[0].grad)
    close(*grads)


def test_attention_dropout_runs_the_stock_code():
    results = []
    ours = patch(gpt2(attn_pdrop=0.5), padding_free=False, **STOCK_PARTS)
    for m in (gpt2(attn_pdrop=0.5), ours):
        m.train()
        torch.manual_seed(5)
        with torch.no_grad():
            results.append(m(**INPUTS).logits)
    assert torch.equal(*results)
    assert set(paths(m).values()) == {"stock"}


def test_training_with_gradient_checkpointing_equals_stock():
    results = []
    for m in (gpt2(), patch(gpt2())):
        trains(m).train()
        for module in m.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        getattr(m, "activation_checkpointing_enable", m.gradient_checkpointing_enable)()
        loss = m(**INPUTS, labels=IDS, use_cache=False).loss
        loss.backward()
        results.append(m.transformer.h[0].attn.c_attn.weight.grad)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("name", [pytest.param("cross", id="item-53-cross-attention")])
def test_cross_attention_equals_stock(name, cached):
    encoded = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(3))
    results = []
    for m in (gpt2(add_cross_attention=True), patch(gpt2(add_cross_attention=True))):
        past = KVCache() if cached else None
        with torch.no_grad():
            first = m(**INPUTS, encoder_hidden_states=encoded, past_key_values=past)
            grown = torch.cat([MASK, MASK[:, :1] * 0 + 1], dim=1)
            second = m(
                IDS[:, :1] % VOCAB,
                attention_mask=grown,
                position_ids=positions_of(grown)[:, -1:],
                encoder_hidden_states=encoded,
                past_key_values=first.past_key_values,
            )
        results.append(torch.cat([first.logits, second.logits], dim=1))
    real = torch.cat([REAL, REAL[:, :1] | True], dim=1)
    close(results[1][real], results[0][real])
    path = "cached_attention" if cached else "masked_attention"
    assert set(paths(m).values()) == {path}


def test_cross_attention_model_generates_as_stock():
    encoded = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(3))
    results = []
    for m in (gpt2(add_cross_attention=True), patch(gpt2(add_cross_attention=True))):
        results.append(generate(m, IDS, MASK, 5, encoder_hidden_states=encoded).sequences)
    assert torch.equal(*results)


@pytest.mark.parametrize("mask", [pytest.param(torch.ones(2, 2), id="item-53-head-mask")])
def test_head_mask_is_refused(mask):
    with pytest.raises(ValueError, match="head_mask is not supported"):
        patch(gpt2())(**INPUTS, head_mask=mask)


def test_stock_still_looks_for_pads_without_a_mask():
    model, calls = patch(gpt2()), []
    model.transformer.warn_if_padding_and_no_attention_mask = lambda ids, mask: calls.append(mask)
    with torch.no_grad():
        model(IDS)
    assert calls[0] is None
