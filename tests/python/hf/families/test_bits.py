"""Whole ``generate`` and encode give a row the same bits, alone and in any batch.

Heads and widths are those of real models, the layers are few.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers")

from hf.families.batches import batch
from hf.families.compare import assert_ours, assert_path
from hf.families.models import FAMILIES, LLAMA3, Family, quietly
from hf.whole import alone, padded, ragged, run, same_bits, unequal

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
VOCAB = 300
PROMPTS = [33, 1, 8, 9, 17, 2]
SENTENCES = (33, 3, 8, 9, 17, 2)


def shape(name: str, **settings: object) -> Family:
    family = FAMILIES[name]
    return replace(family, settings={**family.settings, "vocab_size": VOCAB, **settings})


WIDE = {"hidden_size": 512, "intermediate_size": 900, "num_attention_heads": 8}
DECODERS = {
    # SmolLM2-135M, Llama 3.2, Qwen3-0.6B, Mistral, Gemma 3: heads as they are, widths below 800.
    "smollm2": shape(
        "llama",
        hidden_size=576,
        intermediate_size=1536,
        num_attention_heads=9,
        num_key_value_heads=3,
    ),
    "llama3": shape(
        "llama",
        hidden_size=512,
        intermediate_size=1000,
        num_attention_heads=8,
        num_key_value_heads=2,
        rope_parameters=LLAMA3,
    ),
    "qwen3": shape(
        "qwen3",
        hidden_size=512,
        intermediate_size=1536,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
    ),
    "mistral": shape(
        "mistral",
        hidden_size=512,
        intermediate_size=900,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=128,
        sliding_window=20,
    ),
    "gemma3": shape(
        "gemma3",
        hidden_size=640,
        intermediate_size=1024,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=20,
    ),
    "granite": shape(
        "granite",
        hidden_size=512,
        intermediate_size=900,
        num_attention_heads=8,
        num_key_value_heads=2,
    ),
    # SmolLM3, Phi-4-mini, StableLM 2, Pythia, OPT, Gemma 2.
    "smollm3": shape("smollm3", **WIDE, num_key_value_heads=2),
    "phi3": shape("phi3", **WIDE, num_key_value_heads=2, sliding_window=20),
    "stablelm": shape("stablelm_parallel", **WIDE, num_key_value_heads=8),
    "gpt_neox": shape("gpt_neox", **WIDE),
    "opt": shape("opt", hidden_size=512, num_attention_heads=8, ffn_dim=900),
    "opt_350m": shape(
        "opt_350m", hidden_size=512, num_attention_heads=8, ffn_dim=900, word_embed_proj_dim=256
    ),
    "gemma2": shape(
        "gemma2",
        hidden_size=640,
        intermediate_size=1024,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=256,
        query_pre_attn_scalar=256,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=20,
    ),
}
BASE = {"hidden_size": 768, "num_attention_heads": 12}
ENCODERS = {
    "bert": shape("bert", **BASE, intermediate_size=1536),
    "roberta": shape("roberta", **BASE, intermediate_size=1536),
    "modernbert": shape(
        "modernbert",
        **BASE,
        intermediate_size=1152,
        num_hidden_layers=2,
        layer_types=["full_attention", "sliding_attention"],
        local_attention=40,
    ),
}
EACH_DECODER = pytest.mark.parametrize("name", list(DECODERS))
EACH_ENCODER = pytest.mark.parametrize("name", list(ENCODERS))


def decoder(name, dtype):
    return patch(DECODERS[name].build("ForCausalLM", std=0.05).to(dtype))


# Threads, which rows, in this order, and how many pads more than needed.
BATCHES = [
    (1, [0, 1, 2, 3, 4, 5], 0),
    (1, [3, 5, 1], 5),
    (1, [2, 1, 2], 40),
    (2, [4, 0, 5, 2, 1, 3], 1),
]


@EACH_DECODER
@DTYPES
def test_a_generate_has_the_bits_of_each_prompt_alone(name, dtype):
    """The logits of the prompt and of every step."""
    model = decoder(name, dtype)
    prompts = ragged(PROMPTS, vocab=VOCAB)
    torch.set_num_threads(1)
    expected = alone(model, prompts)
    assert_path(model, "cached_attention")
    wrong = []
    for threads, order, extra in BATCHES:
        torch.set_num_threads(threads)
        found = run(model, [prompts[row] for row in order], extra=extra)
        rows = unequal(found, [expected[row] for row in order])
        wrong += [f"{threads} threads, {extra} pads: rows {rows} of {order}"] if rows else []
    assert_path(model, "cached_attention")
    assert not wrong


@EACH_DECODER
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_forward_of_a_decoder_has_the_bits_of_each_row_alone(name, side):
    model = decoder(name, torch.float32)
    prompts = ragged(PROMPTS, vocab=VOCAB)
    ids, mask = padded(prompts, extra=3)
    if side == "right":
        ids, mask = ids.flip(1), mask.flip(1)
    torch.set_num_threads(1)
    expected = [
        quietly(model, row[real][None]).logits[0]
        for row, real in zip(ids, mask.bool(), strict=True)
    ]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = quietly(model, ids, attention_mask=mask).logits
        assert_ours(model)
        for row, theirs in enumerate(expected):
            assert same_bits(found[row, mask[row].bool()], theirs), (threads, row)


@EACH_DECODER
def test_beams_have_the_bits_of_each_prompt_alone(name):
    model = decoder(name, torch.float32)
    prompts = ragged([17, 1, 9], vocab=VOCAB)
    expected = alone(model, prompts, num_beams=3)
    found = run(model, prompts, extra=2, num_beams=3)
    assert not unequal(found, expected, 3)
    scores = torch.cat([single.sequences_scores for single in expected])
    assert same_bits(found.sequences_scores, scores)


def encoded(model, rows, order):
    """Hidden states of real tokens, row by row; the batch is as wide as the whole one."""
    states = quietly(model, rows.ids[order], attention_mask=rows.mask[order]).last_hidden_state
    return [states[at, rows.real[row]] for at, row in enumerate(order)]


@EACH_ENCODER
@pytest.mark.parametrize(
    ("dtype", "side"),
    [(torch.float32, "right"), (torch.float32, "left"), (torch.bfloat16, "right")],
    ids=str,
)
def test_encoded_rows_have_the_bits_of_each_row_alone(name, dtype, side):
    family = ENCODERS[name]
    model = patch(family.build(std=0.05).to(dtype))
    rows = batch(family, side, SENTENCES)
    torch.set_num_threads(1)
    expected = [quietly(model, row).last_hidden_state[0] for row in rows.rows()]
    assert_ours(model)
    wrong = []
    for threads, order, _ in BATCHES:
        torch.set_num_threads(threads)
        found = encoded(model, rows, order)
        assert_ours(model)
        pairs = zip(order, found, strict=True)
        unlike = [row for row, mine in pairs if not same_bits(mine, expected[row])]
        wrong += [f"{threads} threads: rows {unlike} of {order}"] if unlike else []
    assert not wrong


@EACH_ENCODER
@DTYPES
def test_classes_of_texts_have_the_bits_of_each_text_alone(name, dtype):
    """The head is a part of it: one row of a batch goes through it, or many."""
    family = ENCODERS[name]
    model = patch(family.build("ForSequenceClassification", std=0.05, num_labels=3).to(dtype))
    rows = batch(family, "right", SENTENCES)
    torch.set_num_threads(1)
    expected = [quietly(model, row).logits[0] for row in rows.rows()]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = quietly(model, **rows.inputs()).logits
        for row, theirs in enumerate(expected):
            assert same_bits(found[row], theirs), (threads, row)


@EACH_ENCODER
def test_foretold_words_have_the_bits_of_each_text_alone(name):
    family = ENCODERS[name]
    model = patch(family.build("ForMaskedLM", std=0.05))
    rows = batch(family, "right", SENTENCES)
    expected = [quietly(model, row).logits[0] for row in rows.rows()]
    found = quietly(model, **rows.inputs()).logits
    for row, theirs in enumerate(expected):
        assert same_bits(found[row, rows.real[row]], theirs), row


@pytest.mark.parametrize("name", ["smollm2", "bert"])
def test_stock_code_does_not_keep_the_bits(name):
    """The control: a comparison that finds nothing wrong there is none."""
    family = {**DECODERS, **ENCODERS}[name]
    model = family.build(std=0.05, implementation="sdpa")
    rows = batch(family, "right", SENTENCES)
    found = quietly(model, **rows.inputs()).last_hidden_state
    same = [
        same_bits(found[row, rows.real[row]], quietly(model, prompt).last_hidden_state[0])
        for row, prompt in enumerate(rows.rows())
    ]
    assert not all(same)
