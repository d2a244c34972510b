"""Prompts run on their real tokens only: results, caches, what must not be packed."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import STOCK_PARTS, generate, generate_alone, gpt2, positions_of, prompts
from hf.tokens import assert_same_as_alone, assert_same_tokens
from support.calls import CallCounter
from torch import nn
from transformers import DynamicCache, StaticCache

from masked_attn import KVCache, report
from masked_attn.hf import patch, patched, paths, unpatch
from masked_attn.hf.call.packing import make_packing

pytestmark = pytest.mark.integration

IDS, LEFT = prompts([5, 9, 3])
_, RIGHT = prompts([5, 9, 3], side="right")
HOLES = LEFT.clone()
HOLES[1, 2:5] = 0
HOLES[0, 6] = 0
ONE_LEFT = torch.zeros_like(LEFT)
ONE_LEFT[:, -1] = 1
MASKS = {"left": LEFT, "right": RIGHT, "holes": HOLES, "one-token-each": ONE_LEFT}
CACHES = {
    "no-cache": lambda config: None,
    "kv-cache": lambda config: KVCache(),
    "half-cache": lambda config: KVCache(dtype=torch.bfloat16),
    "dynamic": lambda config: DynamicCache(config=config),
    "static": lambda config: StaticCache(config=config, max_cache_len=24),
}


def tokens_seen(model):
    """Sizes ``[rows, tokens]`` that the first block gets, told by its activation."""
    seen = []
    mlp = model.transformer.h[0].mlp
    mlp.act = Listening(mlp.act, seen)
    return seen


class Listening(nn.Module):
    __module__ = "torch"  # a module of somebody else might mind packed tokens

    def __init__(self, inner, seen):
        super().__init__()
        self.inner, self.seen = inner, seen

    def forward(self, states):
        self.seen.append(tuple(states.shape[:2]))
        return self.inner(states)

    forward.__module__ = "torch"


def counts(mask):
    """Real tokens, and pads behind one that predict a real token or what follows the last slot."""
    follows = torch.nn.functional.pad(mask, (0, 1), value=1)[:, 1:]
    return (mask == 1) | ((mask.cumsum(-1) > 0) & (follows == 1))


def close(ours, expected, real, tolerance=2e-4):
    real = real.bool()
    torch.testing.assert_close(ours[real], expected[real], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("mask", MASKS)
def test_prompt_then_a_second_prompt(mask, cache):
    """The second one goes on from the filled cache, and is ragged too."""
    mask, tolerance = MASKS[mask], 5e-2 if cache == "half-cache" else 2e-4
    more_ids, more = prompts([4, 2, 1], seed=5)
    whole = torch.cat([mask, more], dim=1)
    first_positions, second_positions = positions_of(mask), positions_of(whole)[:, 9:]
    results = []
    for model in (gpt2(implementation="eager"), patch(gpt2())):
        past = CACHES[cache](model.config)
        seen = tokens_seen(model)
        use = {"past_key_values": past, "use_cache": past is not None}
        with torch.no_grad():
            out = model(IDS, attention_mask=mask, position_ids=first_positions, **use).logits
            if past is not None:
                inputs = {"attention_mask": whole, "position_ids": second_positions}
                out = torch.cat([out, model(more_ids, **inputs, **use).logits], dim=1)
        results.append(out)
    first, second = counts(mask), counts(whole)[:, 9:]
    real = first if past is None else torch.cat([first, second], dim=1)
    close(results[1], results[0], real, tolerance)
    assert seen == [(1, int(first.sum())), (1, int(second.sum()))][: len(seen)]
    assert not results[1][:, :9][~first].any()


@pytest.mark.parametrize("mask", MASKS)
def test_the_cache_is_that_of_a_padded_pass(mask):
    mask = MASKS[mask]
    caches = []
    for padding_free in (False, True):
        cache = KVCache()
        with torch.no_grad():
            patch(gpt2(), padding_free=padding_free)(
                IDS, attention_mask=mask, position_ids=positions_of(mask), past_key_values=cache
            )
        caches.append(cache)
    for padded, packed in zip(*(cache.layers for cache in caches), strict=True):
        for name in ("keys", "values"):
            ours, theirs = getattr(packed, name), getattr(padded, name)
            assert ours.shape == theirs.shape
            close(ours.transpose(1, 2), theirs.transpose(1, 2), counts(mask))
            assert not ours.transpose(1, 2)[~counts(mask)].any()


@pytest.mark.parametrize("mask", MASKS)
def test_generate_equals_stock(mask):
    mask = MASKS[mask]
    model = patch(gpt2())
    seen = tokens_seen(model)
    assert_same_tokens(generate(model, IDS, mask), generate(gpt2(), IDS, mask))
    assert seen[0] == (1, int(counts(mask).sum()))


def test_generate_equals_each_prompt_alone():
    alone = generate_alone(gpt2(), IDS, LEFT)
    assert_same_as_alone(generate(patch(gpt2()), IDS, LEFT), alone)


def test_a_hook_that_sees_shapes_keeps_them():
    model = patch(gpt2())
    shapes = []
    hook = model.transformer.h[1].ln_2.register_forward_hook(
        lambda module, args, out: shapes.append(tuple(out.shape))
    )
    with torch.no_grad():
        model(IDS, attention_mask=LEFT)
        assert "test_padding_free" in report(model)["pads"]
        hook.remove()
        seen = tokens_seen(model)
        model(IDS, attention_mask=LEFT)
    assert shapes == [(3, 9, 32)]
    assert seen == [(1, 17)]


def test_hidden_states_and_tuples_have_padded_shapes():
    inputs = {"attention_mask": LEFT, "position_ids": positions_of(LEFT)}
    with torch.no_grad():
        expected = gpt2()(IDS, output_hidden_states=True, **inputs)
        model = patch(gpt2())
        result = model(IDS, output_hidden_states=True, **inputs)
        as_tuple = model(IDS, return_dict=False, use_cache=False, **inputs)
    assert len(result.hidden_states) == len(expected.hidden_states) == 3
    for ours, theirs in zip(result.hidden_states, expected.hidden_states, strict=True):
        close(ours, theirs, LEFT)
        assert not ours[~LEFT.bool()].any()
    close(as_tuple[0], expected.logits, LEFT)


@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_is_stocks_where_no_pad_predicts_a_label_that_counts(side):
    mask = LEFT if side == "left" else RIGHT
    ids = prompts([5, 9, 3], side=side)[0]
    inputs = {"attention_mask": mask, "position_ids": positions_of(mask)}
    before = torch.nn.functional.pad(mask, (1, 0))[:, :-1]  # what predicts each label
    ignored = ids.masked_fill((mask & before) == 0, -100)
    losses = []
    for model in (gpt2(), patch(gpt2())):
        with torch.no_grad():
            losses.append([model(ids, labels=labels, **inputs).loss for labels in (ignored, ids)])
    torch.testing.assert_close(losses[0][0], losses[1][0], atol=1e-5, rtol=1e-5)
    assert abs(losses[0][1] - losses[1][1]) > 1e-3


def test_embeddings_and_token_types():
    embeds = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(2))
    types = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(2))
    inputs = {"inputs_embeds": embeds, "token_type_ids": types, "attention_mask": LEFT}
    inputs["position_ids"] = positions_of(LEFT)
    with torch.no_grad():
        model = patch(gpt2())
        seen = tokens_seen(model)
        close(model(**inputs).logits, gpt2()(**inputs).logits, LEFT)
    assert seen == [(1, 17)]


def test_a_row_without_tokens_does_not_disturb_its_neighbours():
    mask = LEFT.clone()
    mask[0] = 0
    with torch.no_grad():
        result = patch(gpt2())(IDS, attention_mask=mask, position_ids=positions_of(mask)).logits
        alone = gpt2()(IDS[1:], attention_mask=mask[1:], position_ids=positions_of(mask[1:])).logits
    close(result[1:], alone, mask[1:])
    assert not result[0].any()


def test_nothing_is_packed_where_nothing_is_padded():
    every = torch.ones(3, 4, dtype=torch.bool)
    assert make_packing(every, ~every, 0) is None
    with CallCounter() as calls, torch.no_grad():
        patch(gpt2(), fast_linear=False)(IDS, attention_mask=torch.ones_like(LEFT), use_cache=False)
    assert dict(calls.counts) == {"masked_attention": 2}


def acts(model):
    return [block.mlp.act for block in model.transformer.h]


def are_fused(model):
    (fused,) = {"forward" in act.__dict__ for act in acts(model)}
    return fused


def test_levels_can_be_switched_and_come_back():
    model = gpt2()
    before = [(act, dict(act.__dict__)) for act in acts(model)]
    assert not are_fused(patch(model, fuse_activation=False))
    assert are_fused(patch(model))
    with patched(model, padding_free=False, **STOCK_PARTS):
        assert not are_fused(model)
        with torch.no_grad():
            model(IDS, attention_mask=LEFT)
        assert "packed_attention" not in paths(model).values()
    assert are_fused(model)
    unpatch(model)
    assert all(a is b for a, (b, _) in zip(acts(model), before, strict=True))
    assert [act.__dict__ for act in acts(model)] == [held for _, held in before]


def test_the_fused_activation_is_the_same_function():
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    act = gpt2().transformer.h[0].mlp.act
    fused = patch(gpt2()).transformer.h[0].mlp.act
    torch.testing.assert_close(fused(x), act(x), atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_smaller_cache_is_close(dtype):
    model = patch(gpt2(), cache_dtype=dtype)
    result = generate(model, IDS, LEFT, 8)
    expected = generate(gpt2(), IDS, LEFT, 8)
    error = (result.logits[0] - expected.logits[0]).abs().max()
    assert error < 1e-4  # the prompt is computed from its own keys
    cache = KVCache(dtype=dtype)
    with torch.no_grad():
        model(IDS, attention_mask=LEFT, past_key_values=cache)
    assert cache.layers[0].keys.dtype == dtype


@pytest.mark.parametrize(
    "copies", [{}, {"num_beams": 2}, {"num_beams": 4, "num_return_sequences": 2}]
)
def test_generate_refuses_a_row_without_tokens_by_its_number(copies):
    mask = LEFT.clone()
    mask[2] = 0
    with pytest.raises(ValueError, match="row 2 of attention_mask has no token"):
        patch(gpt2()).generate(IDS, attention_mask=mask, max_new_tokens=2, pad_token_id=0, **copies)


def test_a_forward_that_makes_its_own_cache_fills_it():
    """Of the kind that stock code makes, with zeros at pads."""
    more, _ = prompts([4, 4, 4], seed=8)
    whole = torch.nn.functional.pad(LEFT, (0, 4), value=1)
    results = []
    for model in (gpt2(), patch(gpt2())):
        with torch.no_grad():
            cache = model(IDS, attention_mask=LEFT, position_ids=positions_of(LEFT)).past_key_values
            assert type(cache) is DynamicCache
            inputs = {"attention_mask": whole, "position_ids": positions_of(whole)[:, 9:]}
            results.append((cache, model(more, past_key_values=cache, **inputs).logits))
    torch.testing.assert_close(results[1][1], results[0][1], atol=2e-4, rtol=2e-4)
    assert not results[1][0].layers[0].keys.transpose(1, 2)[:, :9][~LEFT.bool()].any()


class Rows(nn.Module):
    """Louder by the number of the row: it counts on the padded shape."""

    def forward(self, states):
        return states * torch.arange(1, len(states) + 1)[:, None, None]


def test_modules_of_others_see_the_padded_batch():
    results = []
    for model in (gpt2(), patch(gpt2())):
        model.transformer.h[1].mlp.dropout = Rows()
        with torch.no_grad():
            positions = positions_of(LEFT)
            results.append(model(IDS, attention_mask=LEFT, position_ids=positions).logits)
    close(results[1], results[0], LEFT)
    facts = report(model)
    assert not facts["padding_free"] and "Rows" in facts["pads"]
    assert "pads      computed: h.1.mlp.dropout is a" in str(facts)
