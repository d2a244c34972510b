"""``pipeline`` on patched encoders: features, classes and words of stock code, in any batch."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from hf.checks import assert_close
from hf.families.compare import assert_ours
from hf.families.models import DECODERS, ENCODERS, each
from hf.families.words import LENGTHS, sentences, tokenizer
from transformers import pipeline

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

EACH = each(ENCODERS)
EACH_SIZE = pytest.mark.parametrize("batch_size", [1, 4, 10])
LABELS = {"num_labels": 3}


def both(task, family, head, **config):
    """The pipeline on stock and on a patched model."""
    words = tokenizer(family)
    models = family.build(head, **config), patch(family.build(head, **config))
    return [pipeline(task, model, tokenizer=words) for model in models]


@EACH
@EACH_SIZE
def test_features(family, batch_size):
    stock, pipe = both("feature-extraction", family, "Model")
    texts = sentences()
    expected, ours = stock(texts), pipe(texts, batch_size=batch_size)
    assert_ours(pipe.model)
    for length, mine, theirs in zip(LENGTHS, ours, expected, strict=True):
        # A batch has pads behind a short text.
        assert_close(torch.tensor(mine)[0, : length + 2], torch.tensor(theirs)[0])


def assert_same_answers(ours, expected, keys):
    assert len(ours) == len(expected)
    for mine, theirs in zip(ours, expected, strict=True):
        for key in keys:
            assert mine[key] == theirs[key]
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-4)


@EACH
@EACH_SIZE
def test_classes_of_texts(family, batch_size):
    stock, pipe = both("text-classification", family, "ForSequenceClassification", **LABELS)
    expected = stock(sentences(), top_k=None)
    ours = pipe(sentences(), top_k=None, batch_size=batch_size)
    assert_ours(pipe.model)
    for mine, theirs in zip(ours, expected, strict=True):
        assert_same_answers(mine, theirs, ["label"])


@EACH
@EACH_SIZE
def test_classes_of_tokens(family, batch_size):
    stock, pipe = both("token-classification", family, "ForTokenClassification", **LABELS)
    expected = stock(sentences(), ignore_labels=[])
    ours = pipe(sentences(), ignore_labels=[], batch_size=batch_size)
    assert_ours(pipe.model)
    for length, mine, theirs in zip(LENGTHS, ours, expected, strict=True):
        assert len(theirs) == length
        assert_same_answers(mine, theirs, ["entity", "index", "word"])


@EACH
@EACH_SIZE
def test_words_behind_a_mask(family, batch_size):
    stock, pipe = both("fill-mask", family, "ForMaskedLM")
    texts = [f"{text} [MASK] w7" for text in sentences()]
    expected, ours = stock(texts), pipe(texts, batch_size=batch_size)
    assert_ours(pipe.model)
    for mine, theirs in zip(ours, expected, strict=True):
        assert_same_answers(mine, theirs, ["token", "token_str", "sequence"])


@each(DECODERS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_texts_of_decoders(family, batch_size):
    found = []
    for model in (family.build("ForCausalLM"), patch(family.build("ForCausalLM"))):
        pipe = pipeline("text-generation", model, tokenizer=tokenizer(family, side="left"))
        how = {"max_new_tokens": 8, "do_sample": False, "batch_size": batch_size}
        found.append([texts[0]["generated_text"] for texts in pipe(sentences()[:6], **how)])
    assert_ours(pipe.model)
    assert found[1] == found[0]
