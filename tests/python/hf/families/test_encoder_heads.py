"""Heads of encoders: words, classes, answers and choices, with their losses, as in stock code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import SIDES, batch
from hf.families.compare import assert_ours, assert_same_gradients
from hf.families.models import ENCODERS, FAMILIES, each, quietly, some

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

EACH = each(ENCODERS)
LENGTHS = (5, 12, 3, 9)
CLASSES = torch.tensor([0, 2, 1, 1])


@dataclass(frozen=True)
class Head:
    """``tokens``: outputs of each token; ``rows``: of each row, which read its first token."""

    name: str
    tokens: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    labels: Any = None  # from a batch


def of_tokens(count):
    return lambda rows: {"labels": (rows.ids % count).masked_fill(~rows.real, -100)}


def of_rows(labels):
    return lambda rows: {"labels": labels}


SEVERAL = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]])
SEQUENCE = "ForSequenceClassification"
HEADS = {
    "words": Head("ForMaskedLM", ("logits",), labels=of_tokens(101)),
    "one of three": Head(
        SEQUENCE, rows=("logits",), config={"num_labels": 3}, labels=of_rows(CLASSES)
    ),
    "several classes": Head(
        SEQUENCE,
        rows=("logits",),
        config={"num_labels": 3, "problem_type": "multi_label_classification"},
        labels=of_rows(SEVERAL),
    ),
    "a number": Head(
        SEQUENCE,
        rows=("logits",),
        config={"num_labels": 1},
        labels=of_rows(torch.tensor([0.5, -1, 2, 0])),
    ),
    "tokens": Head(
        "ForTokenClassification", ("logits",), config={"num_labels": 3}, labels=of_tokens(3)
    ),
    # The loss of an answer compares every slot of a row, pads too: it has a test of its own.
    "answers": Head("ForQuestionAnswering", ("start_logits", "end_logits")),
    # Of every slot, -100 or not, that the mask calls real.
    "pre-training": Head("ForPreTraining"),
    "next sentence": Head(
        "ForNextSentencePrediction", rows=("logits",), labels=of_rows(CLASSES.clamp(max=1))
    ),
}
NAMES = [name for name in HEADS if name not in ("pre-training", "next sentence")]
EACH_HEAD = pytest.mark.parametrize("name", NAMES)
EACH_LOSS = pytest.mark.parametrize("name", [name for name in NAMES if HEADS[name].labels])


def both(family, name):
    """Stock and patched, with equal weights."""
    head = HEADS[name]
    return family.build(head.name, **head.config), patch(family.build(head.name, **head.config))


def reads_a_pad(family, side, head):
    """The first slot of a row that is padded on the left: in a window, it may see nothing."""
    return family.windows and side == "left" and head.rows


def assert_head_equals_stock(family, name, side):
    head = HEADS[name]
    rows = batch(family, side, LENGTHS)
    stock, model = both(family, name)
    expected, ours = quietly(stock, **rows.asked()), quietly(model, **rows.inputs())
    assert_ours(model)
    assert ours.keys() == expected.keys()
    for output in head.tokens:
        assert_close(ours[output][rows.real], expected[output][rows.real])
    clear = rows.real[:, 0] if reads_a_pad(family, side, head) else slice(None)
    for output in head.rows:
        assert_close(ours[output][clear], expected[output][clear])


@EACH
@EACH_HEAD
@pytest.mark.parametrize("side", SIDES)
def test_outputs_equal_stock(family, name, side):
    assert_head_equals_stock(family, name, side)


@pytest.mark.parametrize("side", SIDES)
def test_next_sentences_of_bert(side):
    assert_head_equals_stock(FAMILIES["bert"], "next sentence", side)


@some("bert", "electra")
@pytest.mark.parametrize("side", ["right", "holes"])
def test_heads_of_pre_training(family, side):
    """Electra's discriminator says of each token whether it was replaced."""
    rows = batch(family, side, LENGTHS)
    stock, model = both(family, "pre-training")
    expected, ours = quietly(stock, **rows.asked()), quietly(model, **rows.inputs())
    of_each_token = "logits" if family.name == "electra" else "prediction_logits"
    assert_close(ours[of_each_token][rows.real], expected[of_each_token][rows.real])
    for output in expected.keys() - {of_each_token}:
        assert_close(ours[output], expected[output])
    assert_ours(model)


def test_the_loss_of_the_discriminator():
    family = FAMILIES["electra"]
    rows = batch(family, "right", LENGTHS)
    stock, model = both(family, "pre-training")
    labels = rows.ids % 2
    expected, ours = (quietly(m, **rows.asked(), labels=labels).loss for m in (stock, model))
    assert_close(ours, expected)


@EACH
@EACH_LOSS
@pytest.mark.parametrize("side", ["right", "holes"])
def test_losses_equal_stock(family, name, side):
    rows = batch(family, side, LENGTHS)
    labels = HEADS[name].labels(rows)
    expected, ours = (quietly(m, **rows.asked(), **labels).loss for m in both(family, name))
    assert expected > 0.01
    assert_close(ours, expected)


@EACH
@EACH_LOSS
def test_gradients_equal_stock(family, name):
    rows = batch(family, "right", LENGTHS)
    labels = HEADS[name].labels(rows)
    stock, model = both(family, name)
    for one in (stock, model):
        one(**rows.asked(), **labels).loss.backward()
    assert_same_gradients(model, stock)


@EACH
def test_the_loss_of_an_answer(family):
    """Rows of one length: no pad takes part in the softmax over the slots."""
    rows = batch(family, lengths=(9, 9, 9))
    labels = {
        "start_positions": torch.tensor([0, 3, 8]),
        "end_positions": torch.tensor([1, 7, 8]),
    }
    expected, ours = (quietly(m, **rows.asked(), **labels).loss for m in both(family, "answers"))
    assert_close(ours, expected)


@EACH
@pytest.mark.parametrize("side", ["right", "holes"])
def test_choices_equal_stock(family, side):
    """Ids of three dimensions: batch, choices, slots."""
    rows = batch(family, side, LENGTHS)
    asked = rows.inputs() if side == "right" else rows.asked()
    if "position_ids" in asked and family.name == "distilbert":
        pytest.skip("stock DistilBERT takes no positions of choices")
    given = {name: part.view(2, 2, -1) for name, part in asked.items()}
    target = torch.tensor([1, 0])
    stock = family.build("ForMultipleChoice")
    if family.name == "xlm_roberta" and stock.base_model.pooler is None:
        pytest.skip("stock XLM-RoBERTa of transformers 5.4.0 has no pooler for its choices")
    model = patch(family.build("ForMultipleChoice"))
    expected, ours = (quietly(m, **given, labels=target) for m in (stock, model))
    assert ours.logits.shape == (2, 2)
    assert_close(ours.logits, expected.logits)
    assert_close(ours.loss, expected.loss)


@some("modernbert")
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("side", ["right", "holes"])
def test_poolings_of_modernbert(family, pooling, side):
    rows = batch(family, side, LENGTHS)
    how = {"num_labels": 3, "classifier_pooling": pooling}
    expected = quietly(family.build(SEQUENCE, **how), **rows.asked()).logits
    assert_close(quietly(patch(family.build(SEQUENCE, **how)), **rows.inputs()).logits, expected)
