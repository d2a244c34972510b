"""Heads of decoders: classes of sequences and tokens, answers to questions, as in stock code."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import SIDES, batch
from hf.families.compare import assert_ours, assert_real_close
from hf.families.models import DECODERS, each, quietly, some

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

EACH = each(DECODERS)
SOME = some("llama", "qwen3", "mistral", "gemma3")
SEQUENCE, TOKEN = "ForSequenceClassification", "ForTokenClassification"
LENGTHS = (5, 12, 3, 9)
PROBLEMS = {
    "one of three": (3, torch.tensor([0, 2, 1, 1])),
    "several": (3, torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]])),
    "a number": (1, torch.tensor([0.5, -1, 2, 0])),
}


@EACH
@pytest.mark.parametrize("side", SIDES)
def test_classes_of_sequences(family, side):
    rows = batch(family, side, LENGTHS)
    expected = quietly(family.build(SEQUENCE, num_labels=3), **rows.asked()).logits
    model = patch(family.build(SEQUENCE, num_labels=3))
    assert_close(quietly(model, **rows.inputs()).logits, expected)
    assert_ours(model)


@EACH
@pytest.mark.parametrize("problem", list(PROBLEMS))
def test_losses_of_sequences(family, problem):
    rows = batch(family, "left", LENGTHS)
    labels, target = PROBLEMS[problem]
    expected, ours = (
        quietly(model, **rows.asked(), labels=target).loss
        for model in (
            family.build(SEQUENCE, num_labels=labels),
            patch(family.build(SEQUENCE, num_labels=labels)),
        )
    )
    assert_close(ours, expected)


@SOME
def test_66_the_last_slot_read_where_embeddings_come_in_place_of_ids(family):
    """No id says where a row ends: stock code reads the last slot, a pad of short rows."""
    rows = batch(family, "right", LENGTHS)
    positions = torch.arange(12).expand(4, 12)
    stock, found = family.build(SEQUENCE, num_labels=3, implementation="sdpa"), []
    embeds = stock.get_input_embeddings()(rows.ids).detach()
    given = {"inputs_embeds": embeds, "attention_mask": rows.mask, "position_ids": positions}
    for model in (stock, patch(family.build(SEQUENCE, num_labels=3))):
        found.append(quietly(model, **given).logits)
    # In a window of 4, some of these pads see nothing, which stock code leaves open.
    clear = [1, 3] if family.windows else [0, 1, 2, 3]
    assert_close(found[1][clear], found[0][clear])


@EACH
@pytest.mark.parametrize("side", SIDES)
def test_classes_of_tokens(family, side):
    rows = batch(family, side, LENGTHS)
    expected = quietly(family.build(TOKEN, num_labels=3), **rows.asked()).logits
    model = patch(family.build(TOKEN, num_labels=3))
    assert_real_close(quietly(model, **rows.inputs()).logits, expected, rows.real)
    assert_ours(model)


@EACH
@pytest.mark.parametrize("side", SIDES)
def test_answers_to_questions(family, side):
    rows = batch(family, side, LENGTHS)
    expected = quietly(family.build("ForQuestionAnswering"), **rows.asked())
    model = patch(family.build("ForQuestionAnswering"))
    ours = quietly(model, **rows.inputs())
    assert_ours(model)
    assert_real_close(ours.start_logits, expected.start_logits, rows.real)
    assert_real_close(ours.end_logits, expected.end_logits, rows.real)
