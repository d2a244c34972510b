"""Losses and gradients of patched models are those of stock code."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import batch
from hf.families.compare import assert_same_gradients, assert_stock_says_why
from hf.families.models import DECODERS, ENCODERS, each, quietly, some

from masked_attn.hf import patch, paths

pytestmark = pytest.mark.integration

EACH = each([*DECODERS, *ENCODERS])
SOME = some("llama", "gemma3", "gemma2", "gpt_oss", "stablelm", "opt", "bert", "modernbert")
HEADS = {"decoder": "ForCausalLM", "encoder": "ForMaskedLM"}
DROPOUT = {"hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"}


def build(family, **config):
    """No dropout: two models would draw different numbers."""
    names = {name: 0.0 for name in DROPOUT if hasattr(family.config(), name)}
    return family.build(HEADS[family.kind], **{**names, **config})


def labels_of(rows):
    """No token that would be foretold by a pad: what it saw may be nothing."""
    before = torch.nn.functional.pad(rows.real, (1, 0))[:, :-1]
    return rows.ids.masked_fill(~(rows.real & before), -100)


def loss_of(model, rows):
    return model(**rows.asked(), labels=labels_of(rows)).loss


@EACH
@pytest.mark.parametrize("side", ["left", "right", "holes"])
def test_losses_equal_stock(family, side):
    rows = batch(family, side, lengths=(5, 12, 3, 9))
    with torch.no_grad():
        ours, expected = (loss_of(model, rows) for model in (patch(build(family)), build(family)))
    assert expected > 0.1
    assert_close(ours, expected)


@EACH
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_gradients_are_those_of_stock(family, mode):
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    models = build(family), patch(build(family))
    for model in models:
        model.train(mode == "training")
        loss_of(model, rows).backward()
    assert_same_gradients(models[1], models[0])


@EACH
def test_gradients_come_with_a_reason_for_stock_code(family):
    model = patch(build(family))
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    if not family.plain:  # torch's own attention does not know all that the layers say
        loss_of(model, rows).backward()
        assert set(paths(model).values()) == {"textbook"}
        return
    with pytest.warns(UserWarning, match="gradients"):
        loss_of(model, rows).backward()
    assert_stock_says_why(model)


@SOME
def test_gradients_of_embeddings(family):
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    found = []
    for model in (build(family), patch(build(family))):
        model.requires_grad_(False)
        embeds = model.get_input_embeddings()(rows.ids).detach().requires_grad_()
        out = model(
            inputs_embeds=embeds, attention_mask=rows.mask, position_ids=rows.positions
        ).logits
        out[rows.real].square().mean().backward()
        found.append(embeds.grad)
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@SOME
def test_a_step_of_training_then_an_answer(family):
    """The answer after a step of the optimizer comes from the new weights."""
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    models = build(family), patch(build(family))
    for model in models:
        quietly(model, **rows.asked())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss_of(model.train(), rows).backward()
        optimizer.step()
        model.eval()
    expected, ours = (quietly(model, **rows.asked()).logits for model in models)
    assert_close(ours[rows.real], expected[rows.real])


@SOME
def test_dropout_is_not_forgotten(family):
    names = {name: 0.5 for name in DROPOUT if hasattr(family.config(), name)}
    model = patch(build(family, **names)).train()
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    with torch.no_grad():
        one, other = (model(**rows.asked()).logits[rows.real] for _ in range(2))
    assert names and (one - other).abs().max() > 1e-3
