"""Softcap and sinks reach the operators in both ways in, and are never forgotten.

``truth`` is eager attention in float64: the cap bends scores before masks count, a sink is one more
column of scores, without a value.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import SIDES, batch, each_alone
from hf.families.compare import assert_real_close, assert_rows_close, assert_same_gradients
from hf.families.models import DECODERS, each, quietly
from hf.models import generate
from hf.tokens import assert_same_tokens
from support.calls import CallCounter
from torch import nn
from transformers import StaticCache

from masked_attn.hf import patch, paths
from masked_attn.hf.attention import paths as ways
from masked_attn.hf.attention.interface import attention_forward
from masked_attn.hf.attention.textbook import textbook_attention
from masked_attn.hf.call.visibility import Visibility

pytestmark = pytest.mark.integration

EACH = each([family for family in DECODERS if not family.plain])
EACH_SIDE = pytest.mark.parametrize("side", SIDES)
GENERATOR = torch.Generator().manual_seed(5)
BATCH, HEADS, GROUPS, TOKENS, WIDTH = 3, 4, 2, 7, 8
SAID = {
    "softcap": {"softcap": 0.7},
    "sinks": {"s_aux": torch.tensor([0.5, -2.0, 3.0, 0.0])},
    "both": {"softcap": 1.3, "s_aux": torch.tensor([0.5, -2.0, 3.0, 0.0])},
}
EACH_WORD = pytest.mark.parametrize("word", list(SAID))
# The second row begins with pads, so its first queries see nothing.
KEY_MASK = torch.ones(BATCH, TOKENS).bool()
KEY_MASK[1, :3] = False


def states():
    generator = torch.Generator().manual_seed(5)
    shapes = [(BATCH, heads, TOKENS, WIDTH) for heads in (HEADS, GROUPS, GROUPS)]
    return [2 * torch.randn(shape, generator=generator) for shape in shapes]


def truth(query, key, value, softcap=None, s_aux=None):
    """Attention and weights."""
    query, key, value = (x.double() for x in (query, key, value))
    key, value = (x.repeat_interleave(HEADS // GROUPS, dim=1) for x in (key, value))
    scores = query @ key.mT / WIDTH**0.5
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    seen = KEY_MASK[:, None, None] & torch.ones(TOKENS, TOKENS).bool().tril()
    parts = scores.exp() * seen  # these scores are small
    whole = parts.sum(-1, keepdim=True)
    if s_aux is not None:
        whole = whole + s_aux.double()[:, None, None].exp()
    weights = parts / whole.masked_fill(~seen.any(-1, keepdim=True), 1.0)
    return (weights @ value).transpose(1, 2), weights


@EACH_WORD
@pytest.mark.parametrize("way", ["operator", "weights", "gradients"])
def test_the_attention_function_is_eager_attention(word, way):
    query, key, value = states()
    expected, weights = truth(query, key, value, **SAID[word])
    given = {"dropout": 0.0, **SAID[word], "output_attentions": way == "weights"}
    query.requires_grad_(way == "gradients")
    with CallCounter() as calls:
        out, found = attention_forward(nn.Module(), query, key, value, KEY_MASK, **given)
    assert (calls["masked_attention"] == 1) == (way == "operator")
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(out[1, :3], torch.zeros(3, HEADS, WIDTH))
    if way == "weights":
        torch.testing.assert_close(found.double(), weights, atol=1e-5, rtol=1e-5)


@EACH_WORD
def test_gradients_are_those_of_eager_attention(word):
    """Of queries, keys, values and of the sinks themselves."""
    found = []
    for attend in (attention_forward, truth):
        inputs = [x.requires_grad_() for x in states()]
        said = {name: x for name, x in SAID[word].items() if name != "s_aux"}
        if "s_aux" in SAID[word]:
            said["s_aux"] = SAID[word]["s_aux"].clone().requires_grad_()
            inputs.append(said["s_aux"])
        if attend is truth:
            out = truth(*inputs[:3], **said)[0]
        else:
            out, _ = attention_forward(nn.Module(), *inputs[:3], KEY_MASK, **said)
        out.square().sum().backward()
        found.append([x.grad for x in inputs])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@EACH_WORD
def test_only_sinks_that_learn_need_torch(word):
    """A model whose sinks alone are trained."""
    query, key, value = states()
    said = dict(SAID[word])
    if "s_aux" not in said:
        pytest.skip("no sinks")
    said["s_aux"] = said["s_aux"].clone().requires_grad_()
    out, _ = attention_forward(nn.Module(), query, key, value, KEY_MASK, **said)
    assert out.requires_grad


@EACH_WORD
def test_dropout_of_weights_is_not_torchs_own_attention(word, monkeypatch):
    """Which would leave out the cap or the sinks; a mean over many draws shows that it does not."""

    def never(*args, **kwargs):
        raise AssertionError("torch's own attention ran")

    monkeypatch.setattr(ways, "sdpa_attention_forward", never)
    query, key, value = states()
    expected, _ = truth(query, key, value, **SAID[word])
    torch.manual_seed(1)
    draws = [
        attention_forward(nn.Module(), query, key, value, KEY_MASK, dropout=0.2, **SAID[word])[0]
        for _ in range(2000)
    ]
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(torch.stack(draws).mean(0).double(), expected, atol=0.08, rtol=0.05)


def test_a_sink_that_is_none():
    query, key, value = states()
    seen = Visibility(TOKENS, KEY_MASK, causal=True)
    nothing = torch.full((HEADS,), -torch.inf)
    out, _ = textbook_attention(query, key, value, seen, scale=WIDTH**-0.5, sinks=nothing)
    expected = truth(query, key, value)[0]
    torch.testing.assert_close(out.transpose(1, 2).double(), expected, atol=1e-5, rtol=1e-5)


@EACH
@EACH_SIDE
def test_the_attention_implementation_is_right(family, side):
    rows = batch(family, side)
    stock = family.build()
    expected = quietly(stock, **rows.asked()).last_hidden_state
    ours = quietly(family.build(implementation="masked_attn"), **rows.asked()).last_hidden_state
    assert_real_close(ours, expected, rows.real)
    if side != "holes":
        assert_rows_close(ours, each_alone(stock, rows, "last_hidden_state"), rows.real)


@EACH
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_tokens_of_the_attention_implementation(family, cache):
    rows = batch(family)
    expected = generate(family.build("ForCausalLM"), rows.ids, rows.mask, 12)
    model = family.build("ForCausalLM", implementation="masked_attn")
    with CallCounter() as calls:
        found = generate(model, rows.ids, rows.mask, 12, cache_implementation=cache)
    assert calls["masked_attention"] == 12 * model.config.num_hidden_layers
    assert_same_tokens(found, expected)


@EACH
def test_weights_of_the_attention_implementation(family):
    rows = batch(family)
    expected = quietly(family.build(), **rows.asked(), output_attentions=True)
    model = family.build(implementation="masked_attn")
    ours = quietly(model, **rows.asked(), output_attentions=True)
    for mine, theirs in zip(ours.attentions, expected.attentions, strict=True):
        assert_close(mine.transpose(1, 2)[rows.real], theirs.transpose(1, 2)[rows.real])


@EACH
def test_gradients_of_the_attention_implementation(family):
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    models = [family.build(), family.build(implementation="masked_attn")]
    for model in models:
        model(**rows.asked()).last_hidden_state[rows.real].square().mean().backward()
    assert_same_gradients(models[1], models[0])


@EACH
def test_the_cap_and_the_sinks_are_felt(family):
    """Else the tests above would prove nothing."""
    rows = batch(family)
    model, other = family.build(), family.build()
    for layer in other.layers:
        if hasattr(layer.self_attn, "sinks"):
            layer.self_attn.sinks.data.fill_(-100.0)
        else:
            layer.self_attn.attn_logit_softcapping = None
    apart = quietly(model, **rows.asked())[0] - quietly(other, **rows.asked())[0]
    assert apart[rows.real].abs().max() > 0.05


@EACH
@pytest.mark.parametrize("learned", ["everything", "inside the layers"])
def test_a_patched_model_in_training_runs_step_by_step(family, learned, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("torch's own attention ran")

    monkeypatch.setattr(ways, "sdpa_attention_forward", never)
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    models = family.build(), patch(family.build())
    for model in models:
        if learned != "everything":
            model.requires_grad_(False)
            model.layers[0].self_attn.q_proj.requires_grad_()
        model(**rows.asked()).last_hidden_state[rows.real].square().mean().backward()
    assert set(paths(models[1]).values()) == {"textbook"}
    assert_same_gradients(models[1], models[0])


@EACH
def test_a_static_cache_without_windows_is_written_in_place(family):
    full = {"layer_types": ["full_attention"] * family.config().num_hidden_layers}
    rows = batch(family, lengths=(5, 12, 3, 9))
    expected = quietly(family.build(**full), **rows.asked()).last_hidden_state
    model = patch(family.build(**full))
    cache = StaticCache(config=model.config, max_cache_len=20)
    found = []
    for here in (slice(0, 8), slice(8, 11), slice(11, 12)):
        out = quietly(
            model,
            rows.ids[:, here],
            attention_mask=rows.mask[:, : here.stop],
            position_ids=rows.positions[:, here],
            past_key_values=cache,
        )
        assert set(paths(model).values()) <= {"cached_attention", "packed_attention"}
        found.append(out.last_hidden_state)
    assert_real_close(torch.cat(found, 1), expected, rows.real)


@EACH
def test_sequences_back_to_back(family):
    """Each by itself, told by keywords."""
    rows = batch(family)
    ids = rows.ids[rows.real][None]
    lengths = rows.mask.sum(-1)
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    positions = torch.cat([torch.arange(n) for n in lengths.tolist()])[None]
    said = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "position_ids": positions}
    model = patch(family.build())
    ours = quietly(model, ids, use_cache=False, **said).last_hidden_state[0]
    assert set(paths(model).values()) == {"packed_attention"}
    alone = each_alone(family.build(), rows, "last_hidden_state")
    assert_close(ours, torch.cat(alone))
