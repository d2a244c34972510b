"""Models with experts: what their routers say has the shape of the padded batch, and so their loss.

Experts stay stock code. How many tokens one of them gets depends on the batch, so tokens are those
of each prompt alone (``test_decoders_generate.py``), bits are not promised.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import SIDES, batch
from hf.families.compare import assert_padding_free, assert_same_gradients
from hf.families.models import DECODERS, each, quietly

from masked_attn.hf import patch
from masked_attn.hf.families.registry import FAMILIES

pytestmark = pytest.mark.integration

EXPERTS = [family for family in DECODERS if family.experts]
EACH = each(EXPERTS)
EACH_SIDE = pytest.mark.parametrize("side", SIDES)
LENGTHS = (5, 12, 3, 9)


def build(family, **config):
    return family.build("ForCausalLM", **config)


def labels_of(rows):
    """No token that would be foretold by a pad that has seen nothing."""
    before = torch.nn.functional.pad(rows.real, (1, 0))[:, :-1]
    return rows.ids.masked_fill(~(rows.real & before), -100)


def test_every_family_with_experts_is_looked_at():
    assert {family.name for family in EXPERTS} == {f.folder for f in FAMILIES if f.router}


@EACH
@EACH_SIDE
def test_router_logits_of_real_tokens_are_those_of_stock(family, side):
    rows = batch(family, side, LENGTHS)
    expected = quietly(build(family), **rows.asked(), output_router_logits=True)
    model = patch(build(family))
    ours = quietly(model, **rows.inputs(), output_router_logits=True)
    assert_padding_free(model)
    assert ours.router_logits and len(ours.router_logits) == len(expected.router_logits)
    for mine, theirs in zip(ours.router_logits, expected.router_logits, strict=True):
        assert mine.shape == theirs.shape
        assert_close(mine[rows.real.flatten()], theirs[rows.real.flatten()])


@EACH
@EACH_SIDE
@pytest.mark.parametrize("asked", ["by keyword", "by config"])
def test_the_loss_of_routers_is_that_of_stock(family, side, asked):
    """It counts the tokens of the mask."""
    rows = batch(family, side, LENGTHS)
    given = {"output_router_logits": True} if asked == "by keyword" else {}
    config = {"output_router_logits": asked == "by config", "router_aux_loss_coef": 0.5}
    models = build(family, **config), patch(build(family, **config))
    expected, ours = (quietly(m, **rows.asked(), labels=labels_of(rows), **given) for m in models)
    assert expected.aux_loss > 0.1
    assert_close(ours.aux_loss, expected.aux_loss)
    assert_close(ours.loss, expected.loss)
    plain = quietly(build(family), **rows.asked(), labels=labels_of(rows)).loss
    assert (expected.loss - plain).abs() > 0.1


@EACH
def test_gradients_of_the_loss_of_routers_are_those_of_stock(family):
    rows = batch(family, "right", LENGTHS)
    models = build(family, router_aux_loss_coef=0.5), patch(build(family, router_aux_loss_coef=0.5))
    for model in models:
        out = model(**rows.asked(), labels=labels_of(rows), output_router_logits=True)
        out.loss.backward()
    assert_same_gradients(models[1], models[0])


@EACH
def test_a_tuple_where_no_dict_is_wanted(family):
    rows = batch(family, "left", LENGTHS)
    given = {"output_router_logits": True, "return_dict": False}
    expected = quietly(build(family), **rows.asked(), **given)
    ours = quietly(patch(build(family)), **rows.inputs(), **given)
    assert len(ours) == len(expected) and isinstance(ours, tuple)
    assert_close(ours[-1][0][rows.real.flatten()], expected[-1][0][rows.real.flatten()])


@EACH
def test_attention_and_its_products_are_ours(family):
    """What stays stock code are the routers and the experts."""
    from masked_attn.hf.layers.linear import FastForward

    model = patch(build(family))
    layers = [m for m in model.modules() if type(m) is torch.nn.Linear]
    assert len(layers) > 4 * model.config.num_hidden_layers
    assert all(isinstance(layer.__dict__["forward"], FastForward) for layer in layers)
