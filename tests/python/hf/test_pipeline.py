"""``pipeline`` on a patched model: the text that it gives on the stock model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from hf.checks import assert_ran
from hf.models import gpt2
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2ForSequenceClassification,
    pipeline,
)

import masked_attn
from masked_attn.hf import patch, paths, unpatch

pytestmark = pytest.mark.integration

FOLDER = Path(masked_attn.__file__).parent / "demo_model"
PROMPTS = [
    "Once upon a time",
    "The little dog",
    "Lily and her mother went to the park because the sun was",
    "One",
    "Tom had a big red",
]


@pytest.fixture(scope="module")
def tokenizer():
    loaded = AutoTokenizer.from_pretrained(FOLDER, padding_side="left")
    loaded.pad_token = loaded.pad_token or loaded.eos_token
    return loaded


def generator(tokenizer, *, patched):
    model = AutoModelForCausalLM.from_pretrained(FOLDER).eval()
    return pipeline("text-generation", patch(model) if patched else model, tokenizer=tokenizer)


def texts(pipe, **settings):
    settings = {"max_new_tokens": 20, "do_sample": False, **settings}
    return [result[0]["generated_text"] for result in pipe(PROMPTS, **settings)]


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_text_generation(batch_size, more, tokenizer):
    expected = texts(generator(tokenizer, patched=False), batch_size=batch_size, **more)
    pipe = generator(tokenizer, patched=True)
    assert texts(pipe, batch_size=batch_size, **more) == expected
    assert_ran(pipe.model, "cached_attention")
    assert all(text.startswith(prompt) for text, prompt in zip(expected, PROMPTS, strict=True))
    assert len({text[len(prompt) :] for text, prompt in zip(expected, PROMPTS, strict=True)}) == 5


def test_the_model_of_a_pipeline_is_patched_and_unpatched_in_place(tokenizer):
    pipe = generator(tokenizer, patched=False)
    expected = texts(pipe, batch_size=3)
    patch(pipe.model)
    assert texts(pipe, batch_size=3) == expected
    assert_ran(pipe.model, "cached_attention")
    unpatch(pipe.model)
    assert texts(pipe, batch_size=3) == expected
    assert paths(pipe.model) == {}


def test_a_pipeline_itself_is_not_a_model(tokenizer):
    with pytest.raises(TypeError, match="got TextGenerationPipeline"):
        patch(generator(tokenizer, patched=False))


def test_text_classification(tokenizer):
    results = []
    as_stock = partial(patch, positions_from_mask=False)  # the pipeline gives no positions
    for prepare in (lambda model: model, as_stock):
        model = gpt2(
            model_class=GPT2ForSequenceClassification,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
        pipe = pipeline("text-classification", prepare(model), tokenizer=tokenizer)
        results.append(pipe(PROMPTS, batch_size=5, top_k=None))
    assert_ran(model, "masked_attention")
    for ours, theirs in zip(*results, strict=True):
        assert [entry["label"] for entry in ours] == [entry["label"] for entry in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)
