"""Cross attention of a patched model: an encoder's states with padding, cached or not.

Some versions of transformers lose the encoder's mask, so the truth is each row alone with its own
states, without padding and without a mask.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import STOCK_PARTS, generate, gpt2, positions_of, prompts
from support.calls import CallCounter
from transformers import DynamicCache, EncoderDecoderCache

import masked_attn
from masked_attn.hf import patch, paths

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
STATES = torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(3))
ENCODER_MASKS = {
    "none": None,
    "left": torch.arange(6) >= torch.tensor([[2], [0], [5]]),
    "right": torch.arange(6) < torch.tensor([[2], [6], [1]]),
    "holes": torch.tensor([[1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0]]).bool(),
}


def make(**more):
    return gpt2(add_cross_attention=True, **more)


def states_of(row, mask):
    return STATES[row : row + 1] if mask is None else STATES[row : row + 1, mask[row]]


def alone(model, row, mask):
    """Logits of the real tokens of one row."""
    ids = IDS[row, MASK[row].bool()][None]
    with torch.no_grad():
        return model(ids, encoder_hidden_states=states_of(row, mask)).logits[0]


def crosses(model):
    return {layer["cross"]["path"] for layer in facts(model)}


def facts(model):
    return masked_attn.report(model)["layers"]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no-cache"])
@pytest.mark.parametrize("mask", ENCODER_MASKS)
def test_item_53_cross_attention_equals_each_row_alone(mask, use_cache, fused):
    mask = ENCODER_MASKS[mask]
    stock, model = make(), patch(make(), fused=fused)
    with torch.no_grad():
        logits = model(
            IDS,
            attention_mask=MASK,
            position_ids=positions_of(MASK),
            encoder_hidden_states=STATES,
            encoder_attention_mask=None if mask is None else mask.long(),
            use_cache=use_cache,
        ).logits
    for row in range(3):
        ours = logits[row, MASK[row].bool()]
        torch.testing.assert_close(ours, alone(stock, row, mask), atol=2e-4, rtol=1e-4)
    assert crosses(model) == {"masked_attention" if fused else "textbook"}


@pytest.mark.parametrize("mask", ENCODER_MASKS)
def test_steps_read_the_cached_states(mask):
    """The encoder's keys and values are computed once for a whole generation."""
    mask = ENCODER_MASKS[mask]
    stock, model = make(), patch(make())
    projections = []
    hook = model.transformer.h[0].crossattention.c_attn.register_forward_hook(
        lambda *_: projections.append(1)
    )
    result = generate(
        model,
        IDS,
        MASK,
        6,
        encoder_hidden_states=STATES,
        encoder_attention_mask=None if mask is None else mask.long(),
    )
    hook.remove()
    assert len(projections) == 1
    assert crosses(model) == {"masked_attention"}
    for row in range(3):
        ids = IDS[row, MASK[row].bool()][None]
        expected = generate(stock, ids, None, 6, encoder_hidden_states=states_of(row, mask))
        assert torch.equal(result.sequences[row, 7:], expected.sequences[0, ids.shape[1] :])


def test_beams_reorder_the_cached_states():
    mask = ENCODER_MASKS["left"]
    results = []
    for model in (make(), patch(make())):
        inputs = {"encoder_hidden_states": STATES, "num_beams": 3}
        results.append(generate(model, IDS, MASK, 6, **inputs).sequences)
    assert torch.equal(*results)
    masked = generate(
        patch(make()), IDS, MASK, 6, **inputs, encoder_attention_mask=mask.long()
    ).sequences
    for row in range(3):
        ids = IDS[row, MASK[row].bool()][None]
        inputs["encoder_hidden_states"] = states_of(row, mask)
        expected = generate(make(), ids, None, 6, **inputs).sequences
        assert torch.equal(masked[row, 7:], expected[0, ids.shape[1] :])


def test_weights_are_those_of_eager():
    with torch.no_grad():
        inputs = {"encoder_hidden_states": STATES, "output_attentions": True}
        expected = make(implementation="eager")(IDS, **inputs).cross_attentions
        model = patch(make())
        weights = model(IDS, **inputs).cross_attentions
    assert len(weights) == len(expected) == 2
    for ours, theirs in zip(weights, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_mask_of_another_shape_is_left_to_stock():
    results = []
    for model in (make(), patch(make(), **STOCK_PARTS)):
        mask = torch.ones(3, 1, 7, 6, dtype=torch.bool)
        with torch.no_grad():
            inputs = {"encoder_hidden_states": STATES, "encoder_attention_mask": mask}
            results.append(model(IDS, **inputs).logits)
    assert torch.equal(*results)
    assert set(paths(model).values()) == {"stock"}
    assert "encoder_attention_mask" in facts(model)[0]["why"]


def test_a_cache_of_both_kinds_goes_on():
    """A second call finds the encoder's keys in the cache that the first one filled."""
    results = []
    for model in (make(), patch(make())):
        cache = EncoderDecoderCache(
            DynamicCache(config=model.config), DynamicCache(config=model.config)
        )
        inputs = {"encoder_hidden_states": STATES, "past_key_values": cache}
        with torch.no_grad():
            first = model(IDS, **inputs).logits
            results.append(torch.cat([first, model(IDS[:, :1], **inputs).logits], dim=1))
    torch.testing.assert_close(results[1], results[0], atol=2e-4, rtol=1e-4)
    assert crosses(model) == {"masked_attention"}


def test_one_row_of_states_for_all_is_left_to_stock():
    results = []
    for model in (make(), patch(make(), **STOCK_PARTS)):
        with torch.no_grad():
            results.append(model(IDS, encoder_hidden_states=STATES[:1]).logits)
    assert torch.equal(*results)
    assert "1 rows of encoder states" in facts(model)[0]["why"]


def test_a_call_from_within_a_forward_follows_its_own_states():
    """A hook that uses the layers for purposes of its own must not see the plan of the forward."""
    others = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(8))
    hidden = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(9))
    found = []

    def look(module, args, out):
        found.append(layer(hidden, encoder_hidden_states=others)[0])

    for model in (make(), patch(make())):
        layer = model.transformer.h[1].crossattention
        hook = model.transformer.h[0].mlp.register_forward_hook(look)
        mask = ENCODER_MASKS["left"].long()
        with torch.no_grad():
            model(IDS, encoder_hidden_states=STATES, encoder_attention_mask=mask)
        hook.remove()
    torch.testing.assert_close(*found)


def test_a_stock_forward_within_a_forward_is_stock():
    inner, found = patch(make(seed=7)), []

    def run_inner(module, args, out):
        with torch.enable_grad():  # so that it is left to stock
            found.append(inner(IDS, encoder_hidden_states=STATES).logits.detach())

    expected = make(seed=7)(IDS, encoder_hidden_states=STATES).logits
    outer = patch(make())
    outer.transformer.h[0].mlp.register_forward_hook(run_inner)
    mask = ENCODER_MASKS["left"].long()
    with torch.no_grad():
        outer(IDS, encoder_hidden_states=STATES, encoder_attention_mask=mask)
    torch.testing.assert_close(found[0], expected.detach())


def test_a_layer_called_alone_is_stock():
    hidden = torch.randn(3, 5, 32)
    results = [
        m.transformer.h[0].crossattention(hidden, encoder_hidden_states=STATES)[0]
        for m in (make(), patch(make()))
    ]
    assert torch.equal(*results)


def test_operators_run():
    with CallCounter() as calls, torch.no_grad():
        patch(make(), fast_linear=False)(IDS, encoder_hidden_states=STATES, use_cache=False)
    assert dict(calls.counts) == {"masked_attention": 4}
