"""Sequences back to back in one row, as ``DataCollatorWithFlattening`` hands them to a model."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.models import DECODERS, FAMILIES, VOCAB, each, quietly, some
from hf.models import gpt2
from transformers import DataCollatorWithFlattening

from masked_attn.hf import patch, paths

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:masked_attn. stock attention runs"),
]

LENGTHS = (7, 1, 12, 4)


def features() -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    return [
        {"input_ids": torch.randint(5, VOCAB, (n,), generator=generator).tolist()} for n in LENGTHS
    ]


def flattened(**more) -> dict[str, torch.Tensor]:
    """What the collator of transformers makes for flash attention."""
    collate = DataCollatorWithFlattening(return_tensors="pt", return_flash_attn_kwargs=True, **more)
    made = dict(collate(features()))
    made.pop("labels")
    return made


def alone(model) -> torch.Tensor:
    """The last states of each sequence by itself, back to back."""
    rows = [torch.tensor([row["input_ids"]]) for row in features()]
    return torch.cat([quietly(model, input_ids=row).last_hidden_state for row in rows], dim=1)


@each(DECODERS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_keywords_part_the_sequences_of_decoders(family, use_cache):
    model = patch(family.build())
    ours = quietly(model, **flattened(), use_cache=use_cache).last_hidden_state
    assert set(paths(model).values()) == {"packed_attention"}
    expected = alone(family.build())
    assert_close(ours, expected)


@some("bert", "modernbert", "distilbert", "electra")
def test_keywords_part_the_sequences_of_encoders(family):
    model = patch(family.build())
    ours = quietly(model, **flattened()).last_hidden_state
    assert set(paths(model).values()) == {"packed_attention"}
    assert_close(ours, alone(family.build()))


def test_keywords_part_the_sequences_of_gpt2():
    model = patch(gpt2())
    ours = quietly(model.transformer, **flattened()).last_hidden_state
    assert_close(ours, alone(gpt2().transformer))


# Stock code makes the masks of the others without positions: ``families/test_own_ways.py``.
PARTED = [family for family in DECODERS if family.name not in ("opt", "opt_350m", "gpt_oss")]


@each(PARTED)
def test_positions_that_start_again_part_them_without_a_cache(family):
    given = flattened()
    wanted = {name: given[name] for name in ("input_ids", "position_ids")}
    model, stock = patch(family.build()), family.build()
    ours = quietly(model, **wanted, use_cache=False).last_hidden_state
    assert set(paths(model).values()) == {"packed_attention"}
    theirs = quietly(stock, **wanted, use_cache=False).last_hidden_state
    assert_close(ours, theirs)
    assert_close(ours, alone(stock))


@some("llama", "mistral", "gemma3")
@pytest.mark.parametrize("how", ["gradients", "weights", "textbook"])
def test_what_takes_no_offsets_sees_the_same(family, how):
    model = patch(family.build(), fused=how != "textbook")
    with torch.set_grad_enabled(how == "gradients"):
        out = model(**flattened(), use_cache=False, output_attentions=how == "weights")
    expected = alone(family.build())
    assert_close(out.last_hidden_state, expected)
    if how == "gradients":
        out.last_hidden_state.sum().backward()
        assert all(parameter.grad is not None for parameter in model.layers.parameters())
    if how == "weights":
        assert not bool(out.attentions[0][0, :, LENGTHS[0], : LENGTHS[0]].any())


@some("llama", "mistral")
def test_keywords_count_in_a_compiled_graph(family):
    compiled = torch.compile(patch(family.build()), backend="eager", fullgraph=True)
    ours = quietly(compiled, **flattened(), use_cache=False).last_hidden_state
    assert_close(ours, alone(family.build()))


def wrong(**changes):
    return {**flattened(), **changes}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: wrong(cu_seq_lens_k=torch.tensor([0, 24])), "cu_seq_lens_k must be cu_seq_lens_q"),
        (lambda: wrong(cu_seq_lens_q=torch.tensor([0, 9]), cu_seq_lens_k=None), "from 0 to 24"),
        (lambda: wrong(attention_mask=torch.ones(1, 24)), "beside attention_mask"),
        (lambda: wrong(cu_seq_lens_q=None), "cu_seq_lens_q must be a tensor"),
        (
            lambda: wrong(input_ids=torch.ones(2, 12, dtype=torch.long), position_ids=None),
            "sequences in one row, got 2 rows",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    model = patch(FAMILIES["llama"].build())
    with pytest.raises(ValueError, match=message), torch.no_grad():
        model(**given())


def test_a_cache_that_holds_tokens_is_refused():
    model = patch(FAMILIES["llama"].build())
    with torch.no_grad():
        past = model(torch.ones(1, 3, dtype=torch.long), use_cache=True)
        cache = past.get("cache", past.get("past_key_values"))
        with pytest.raises(ValueError, match="beside a cache that holds tokens"):
            model(**flattened(), past_key_values=cache)
