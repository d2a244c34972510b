"""``sentence-transformers`` on patched encoders: its embeddings, and the same bits in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")
pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

from hf.families.compare import assert_ours
from hf.families.models import ENCODERS, FAMILIES, each, some
from hf.families.words import sentences, tokenizer
from sentence_transformers import CrossEncoder, SentenceTransformer

from masked_attn.hf import patch, patched, unpatch

pytestmark = pytest.mark.integration

EACH = each(ENCODERS)
BITS = some("bert", "roberta", "distilbert", "modernbert")
POOLINGS = ["mean", "cls", "max"]
PAIRS = list(zip(sentences(seed=1), sentences(seed=2), strict=True))


def modules():
    """Where they are has changed between releases."""
    try:
        from sentence_transformers.sentence_transformer import modules as found
    except ImportError:
        from sentence_transformers import models as found
    return found


@pytest.fixture
def saved(tmp_path):
    """Writes a model with its tokenizer; returns the folder."""

    def save(family, head="Model", **config):
        family.build(head, **config).save_pretrained(tmp_path)
        tokenizer(family).save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def embedder(folder, pooling="mean", *, dense=False, normalize=False):
    """The same weights for the same arguments."""
    parts = modules()
    layers = [parts.Transformer(folder), parts.Pooling(32, pooling)]
    if dense:
        torch.manual_seed(3)
        layers.append(parts.Dense(32, 20))
    if normalize:
        layers.append(parts.Normalize())
    return SentenceTransformer(modules=layers, device="cpu").eval()


def backbone(model):
    """The transformers model inside."""
    return next(m for m in model.modules() if hasattr(m, "get_input_embeddings"))


def encode(model, texts, batch_size=32, **more):
    return model.encode(texts, batch_size=batch_size, show_progress_bar=False, **more)


def assert_near(ours, expected):
    np.testing.assert_allclose(ours, expected, atol=2e-4, rtol=1e-4)


@EACH
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_embeddings_are_those_of_stock(family, pooling, batch_size, saved):
    model = embedder(saved(family), pooling)
    expected = encode(model, sentences())
    assert patch(model) is model
    ours = encode(model, sentences(), batch_size)
    assert_ours(backbone(model))
    assert_near(ours, expected)
    assert_near(encode(unpatch(model), sentences()), expected)


@EACH
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "plain"])
@pytest.mark.parametrize("normalize", [True, False], ids=["normalized", "as they are"])
def test_dense_layers_and_normalized_embeddings(family, dense, normalize, saved):
    model = embedder(saved(family), dense=dense, normalize=normalize)
    expected = encode(model, sentences())
    assert expected.shape == (10, 20 if dense else 32)
    with patched(model):
        assert_near(encode(model, sentences()), expected)


@EACH
def test_token_embeddings_are_those_of_stock(family, saved):
    model = embedder(saved(family))
    expected = encode(model, sentences(), output_value="token_embeddings")
    ours = encode(patch(model), sentences(), output_value="token_embeddings")
    for mine, theirs in zip(ours, expected, strict=True):
        assert_near(mine.numpy(), theirs.numpy())


@EACH
@pytest.mark.parametrize("labels", [1, 3])
def test_scores_of_pairs_are_those_of_stock(family, labels, saved):
    folder = saved(family, "ForSequenceClassification", num_labels=labels)
    model = CrossEncoder(folder, device="cpu")
    expected = model.predict(PAIRS, show_progress_bar=False)
    for batch_size in (1, 4, 32):
        ours = patch(model).predict(PAIRS, batch_size=batch_size, show_progress_bar=False)
        assert_ours(backbone(model))
        assert_near(ours, expected)
    assert_near(unpatch(model).predict(PAIRS, show_progress_bar=False), expected)


def shuffled(count):
    return torch.randperm(count, generator=torch.Generator().manual_seed(5)).tolist()


def assert_same_bits(run, inputs):
    """Every input by itself, then in batches of every size and order, on one thread and two."""
    torch.set_num_threads(1)
    alone = np.stack([run([one], 1)[0] for one in inputs])
    assert len(np.unique(alone.round(3), axis=0)) == len(inputs)  # they do differ
    orders = [list(range(len(inputs))), shuffled(len(inputs))]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for size in (1, 3, 8, 32):
            for order in orders:
                found = run([inputs[at] for at in order], size)
                same = (found == alone[order]).reshape(len(order), -1).all(1)
                assert same.all(), f"threads {threads}, batch {size}: rows {np.where(~same)[0]}"


@BITS
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_sentence_has_the_same_bits_in_every_batch(family, pooling, saved):
    model = patch(embedder(saved(family), pooling))
    assert_same_bits(lambda texts, size: encode(model, texts, size), sentences())


@BITS
def test_the_same_bits_behind_dense_layers(family, saved):
    model = patch(embedder(saved(family), dense=True, normalize=True))
    assert_same_bits(lambda texts, size: encode(model, texts, size), sentences())


@BITS
@pytest.mark.parametrize("labels", [1, 3])
def test_a_pair_has_the_same_bits_in_every_batch(family, labels, saved):
    folder = saved(family, "ForSequenceClassification", num_labels=labels)
    model = patch(CrossEncoder(folder, device="cpu"))

    def run(pairs, size):
        found = model.predict(pairs, batch_size=size, show_progress_bar=False)
        return found.reshape(len(pairs), -1)

    assert_same_bits(run, PAIRS)


def test_a_library_model_is_saved_as_stock(saved, tmp_path):
    model = patch(embedder(saved(FAMILIES["bert"]), dense=True))
    expected = encode(model, sentences())
    model.save(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"), device="cpu")
    assert_near(encode(again, sentences()), expected)
