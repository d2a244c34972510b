"""The embedded model: it loads offline, is small, and knows more than pairs of tokens."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is part of the source tree, not of the installed package

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tools.demo_model import corpus, evaluate, grammar, prompts  # noqa: E402
from tools.demo_model.bigram import Bigram  # noqa: E402
from tools.demo_model.tokenization import END_OF_TEXT, encode_documents  # noqa: E402

FOLDER = ROOT / "python" / "masked_attn" / "demo_model"
FRESH_SEED = 1234  # neither the training text nor the held-out text of the report


@pytest.fixture(scope="module")
def loaded() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield evaluate.load(FOLDER)


@pytest.fixture(scope="module")
def fresh_texts() -> list[str]:
    return corpus.make_documents(40, FRESH_SEED)


def test_model_is_a_small_gpt2(loaded: Any) -> None:
    model, tokenizer = loaded
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.dtype == torch.float32
    assert model.config.n_positions >= 512
    assert model.config.n_embd // model.config.n_head in (32, 64)
    assert model.config.vocab_size == len(tokenizer)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert (FOLDER / "model.safetensors").stat().st_size < 10_000_000


def test_special_tokens_agree(loaded: Any) -> None:
    model, tokenizer = loaded
    assert tokenizer.eos_token == tokenizer.pad_token == END_OF_TEXT
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id


def test_tokenizer_pads_on_the_left(loaded: Any) -> None:
    _, tokenizer = loaded
    batch = tokenizer(prompts.DEMO_PROMPTS, padding=True)
    assert all(mask == sorted(mask) and mask[-1] == 1 for mask in batch["attention_mask"])
    assert len({sum(mask) for mask in batch["attention_mask"]}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "It will rain in the afternoon.",
        ' Two  spaces, a "quote" , a\ttab\nand a line',
        "Grüße, привет, 你好, \N{ROBOT FACE}!",
        "",
        *prompts.OTHER_PROMPTS,
    ],
)
def test_tokenizer_round_trip(loaded: Any, text: str) -> None:
    _, tokenizer = loaded
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_prompts_do_not_occur_in_the_text() -> None:
    # The model was trained on the first 100 000 documents of this seed.
    text = "\n".join(corpus.make_documents(5000, corpus.TRAIN_SEED)).lower()
    assert not any(prompt.lower() in text for prompt in prompts.ALL_PROMPTS)
    for neighbour in ("rain in the", "want to eat a small bowl of", "our dog is", "my cat is"):
        assert neighbour in text


def test_prompt_guard_is_not_blind() -> None:
    assert all(prompts.contains_prompt(f"So: {p.upper()} ...") for p in prompts.ALL_PROMPTS)
    assert not prompts.contains_prompt("Our dog is in the garden.")
    assert len(set(prompts.OTHER_PROMPTS)) == 20


def test_text_is_reproducible_and_rich() -> None:
    documents = corpus.make_documents(3000, corpus.TRAIN_SEED)
    assert documents == corpus.make_documents(3000, corpus.TRAIN_SEED)
    assert documents != corpus.make_documents(3000, corpus.HELD_OUT_SEED)
    text = "\n".join(documents)
    words = {word.strip('.,!?"') for word in text.lower().split()}
    assert len(words) > 1500
    assert not set(text) & set("[]{}<>@|^")


def test_model_beats_the_bigram(loaded: Any, fresh_texts: list[str]) -> None:
    model, tokenizer = loaded
    training = corpus.make_documents(5000, corpus.TRAIN_SEED)
    bigram = Bigram(encode_documents(tokenizer, training), len(tokenizer))
    ours = evaluate.score(lambda ids: evaluate.model_nats(model, ids), tokenizer, fresh_texts)
    baseline = evaluate.score(bigram.nats, tokenizer, fresh_texts)
    assert ours.per_token < 0.7 * baseline.per_token
    assert ours.per_byte < 0.7 * baseline.per_byte


def test_model_needs_its_context(loaded: Any, fresh_texts: list[str]) -> None:
    # The same tokens with the document shuffled: a model that ignores order would not mind.
    model, tokenizer = loaded
    rows = encode_documents(tokenizer, fresh_texts[:10])
    generator = torch.Generator().manual_seed(0)
    straight = shuffled = 0.0
    for ids in rows:
        order = torch.randperm(len(ids), generator=generator)
        straight += evaluate.model_nats(model, ids)
        shuffled += evaluate.model_nats(model, [ids[i] for i in order.tolist()])
    assert straight < 0.5 * shuffled


def test_greedy_completions_are_sentences(loaded: Any) -> None:
    model, tokenizer = loaded
    texts = evaluate.complete(model, tokenizer, prompts.DEMO_PROMPTS, 24)
    assert len(set(texts)) == 3
    for text in texts:
        words = text.split()
        assert "." in text
        assert len(set(words)) >= 8


def test_late_positions_are_trained(loaded: Any) -> None:
    model, tokenizer = loaded
    texts = corpus.make_documents(30, FRESH_SEED)
    ids = [token for row in encode_documents(tokenizer, texts) for token in row][:1024]
    assert len(ids) == 1024
    row = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="none")
    assert losses[768:].mean() < 1.5 * losses[:256].mean()


@pytest.mark.parametrize("module", [corpus, grammar], ids=lambda module: module.__name__)
def test_doctests(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
