"""``generate`` of patched decoders: the tokens of each prompt alone, and of stock code."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import batch
from hf.families.compare import assert_ours, assert_path
from hf.families.models import DECODERS, FAMILIES, each, quietly, some
from hf.models import generate, generate_alone
from hf.tokens import assert_same_as_alone, assert_same_tokens, assert_varied
from transformers import DynamicCache, StaticCache

from masked_attn.hf import KVCache, patch, paths, report

pytestmark = pytest.mark.integration

EACH = each(DECODERS)
SOME = some("llama", "qwen3", "mistral", "gemma3", "stablelm", "opt", "gemma2", "gpt_oss")
CACHED_IN_MANY_WAYS = some(
    *("llama", "qwen3", "mistral", "qwen2_windows", "gemma3"),
    *("gpt_neox", "stablelm", "opt", "mixtral", "gemma2", "gpt_oss"),
)
LENGTHS = (5, 12, 1, 9)
CAPACITY = 40


def stock(family, **config):
    return family.build("ForCausalLM", **config)


def ours(family, **config):
    return patch(family.build("ForCausalLM", implementation="sdpa", **config))


@EACH
def test_tokens_are_those_of_each_prompt_alone_and_of_stock(family):
    rows = batch(family, lengths=LENGTHS)
    model = ours(family)
    found = generate(model, rows.ids, rows.mask)
    assert_path(model, "cached_attention")
    assert_varied(found, distinct=2)
    assert len(found.sequences[:, -24:].unique()) >= 16
    assert_same_as_alone(found, generate_alone(stock(family), rows.ids, rows.mask))
    assert_same_tokens(found, generate(stock(family), rows.ids, rows.mask))


@EACH
def test_logits_of_every_step_equal_one_pass_of_stock(family):
    """Without a cache: what a step sees is not what an earlier one left."""
    rows = batch(family, lengths=LENGTHS)
    found = generate(ours(family), rows.ids, rows.mask, 10)
    model = stock(family)
    slots = rows.ids.shape[1]
    for row, prompt in enumerate(rows.rows()):
        whole = torch.cat([prompt, found.sequences[row : row + 1, slots:-1]], dim=1)
        expected = quietly(model, whole).logits[0, prompt.shape[1] - 1 :]
        assert_close(torch.stack([step[row] for step in found.logits]), expected)


@EACH
@pytest.mark.parametrize("cache", [KVCache, DynamicCache])
def test_26_steps_in_a_region_of_autocast(family, cache):
    """Rotary positions leave queries and keys in float32 there, values in bfloat16."""
    rows = batch(family, "left")
    ones = torch.ones(len(rows.ids), 1, dtype=torch.long)
    ids, mask = torch.cat([rows.ids, ones * 7], 1), torch.cat([rows.mask, ones], 1)
    asked = {"input_ids": ids, "attention_mask": mask, "position_ids": family.positions(mask)}
    truth = quietly(stock(family), **asked).logits[:, -1]
    model, past = ours(family), cache()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = quietly(stock(family), **asked).logits[:, -1]
        quietly(model, **rows.inputs(), past_key_values=past, use_cache=True)
        step = quietly(
            model, ids[:, -1:], attention_mask=mask, past_key_values=past, use_cache=True
        )
    assert_ours(model)
    errors = [(found.float() - truth).square().mean().sqrt() for found in (step[0][:, -1], rounded)]
    assert errors[0] <= 1.5 * errors[1] + 1e-3


@EACH
def test_the_report_says_packed_prompt_and_cached_step(family):
    rows = batch(family, lengths=LENGTHS)
    model = ours(family)
    generate(model, rows.ids, rows.mask, 4)
    facts = report(model)
    assert {layer["path"] for layer in facts["prompt"]["layers"]} == {"packed_attention"}
    assert {layer["path"] for layer in facts["layers"]} == {"cached_attention"}
    assert set(paths(model).values()) == {"cached_attention"}
    assert facts["cache"]["type"] == "KVCache"


@SOME
@pytest.mark.parametrize("side", ["right", "holes"])
def test_66_prompts_with_pads_elsewhere_go_on_as_in_stock(family, side):
    if side == "right" and family.name == "gemma2":
        pytest.skip("a pad that sees nothing is read, and stock eager attention sees all there")
    rows = batch(family, side, lengths=(5, 12, 3, 9))
    found = generate(ours(family), rows.ids, rows.mask, 8)
    # Windows of stock caches count slots that were cut off, and pads of eager rows are read here.
    expected = generate(stock(family, implementation="sdpa"), rows.ids, rows.mask, 8)
    assert_same_tokens(found, expected)


@some("mistral", "qwen2_windows", "gemma3", "phi3", "gemma2", "gpt_oss")
@pytest.mark.parametrize("window", [1, 2, 6, 12, 15, 64])
def test_steps_that_cross_a_window(family, window):
    rows = batch(family, lengths=LENGTHS)
    found = generate(ours(family, sliding_window=window), rows.ids, rows.mask, 16)
    model = stock(family, sliding_window=window)
    # A stock cache keeps every token of a window of 1.
    alone = [generate(model, row, None, 16, use_cache=False) for row in rows.rows()]
    assert_same_as_alone(found, alone)


@EACH
def test_beams_equal_stock(family):
    rows = batch(family, lengths=LENGTHS)
    how = {"num_beams": 3, "new_tokens": 8}
    expected = generate(stock(family), rows.ids, rows.mask, **how)
    found = generate(ours(family), rows.ids, rows.mask, **how)
    assert torch.equal(found.sequences, expected.sequences)
    assert_close(found.sequences_scores, expected.sequences_scores)


@EACH
def test_sampling_with_a_seed_equals_stock(family):
    rows = batch(family, lengths=LENGTHS)
    drawn = []
    for model in (stock(family), ours(family)):
        torch.manual_seed(7)
        drawn.append(generate(model, rows.ids, rows.mask, 8, do_sample=True, top_k=20))
    assert torch.equal(drawn[0].sequences, drawn[1].sequences)


@SOME
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
@pytest.mark.parametrize("batched", [True, False], ids=["batch", "one row"])
def test_without_pads(family, cached, batched):
    rows = batch(family, lengths=(7,) * 3 if batched else (7,))
    found = generate(ours(family), rows.ids, None, 12, use_cache=cached)
    assert_same_tokens(found, generate(stock(family), rows.ids, None, 12))


@SOME
def test_all_tokens_again_in_every_step(family):
    rows = batch(family, lengths=LENGTHS)
    model = ours(family)
    found = generate(model, rows.ids, rows.mask, 12, use_cache=False)
    assert_path(model, "packed_attention")
    assert_same_tokens(found, generate(stock(family), rows.ids, rows.mask, 12))


CACHES = {
    "dynamic": lambda config: {"past_key_values": DynamicCache(config=config)},
    "static": lambda config: {
        "past_key_values": StaticCache(config=config, max_cache_len=CAPACITY)
    },
    "ours": lambda config: {"past_key_values": KVCache()},
    "ours of a size": lambda config: {"past_key_values": KVCache(max_length=CAPACITY)},
    "asked for dynamic": lambda config: {"cache_implementation": "dynamic"},
    "asked for static": lambda config: {"cache_implementation": "static"},
}
EACH_CACHE = pytest.mark.parametrize("cache", list(CACHES))


def assert_ours_or_told(model, family, cache):
    """A static cache comes with one dense mask for each kind of layer, which stock code reads."""
    reasons = {layer["why"] for layer in report(model)["layers"]}
    if "static" in cache and reasons != {None}:
        assert family.name != "llama"
        (why,) = reasons
        assert why == "attention_mask is a dict" or why.startswith("the cache hands over"), why
    else:
        assert_ours(model)


@CACHED_IN_MANY_WAYS
@EACH_CACHE
def test_caches_given_by_the_user(family, cache):
    rows = batch(family, lengths=LENGTHS)
    model = ours(family)
    given = CACHES[cache](model.config)
    found = generate(model, rows.ids, rows.mask, 12, **given)
    assert_same_tokens(found, generate(stock(family), rows.ids, rows.mask, 12))
    for one in (kept for name, kept in given.items() if name == "past_key_values"):
        assert found.past_key_values is one
    assert_ours_or_told(model, family, cache)


@SOME
@pytest.mark.parametrize("cache", ["dynamic", "static", "ours"])
def test_a_conversation_goes_on_from_the_cache(family, cache):
    """A second question, asked of the cache that the first answer left."""
    rows = batch(family, lengths=(5, 12, 3, 9))
    model = ours(family)
    given = CACHES[cache](model.config)
    first = generate(model, rows.ids, rows.mask, 5, **given)
    more = batch(family, lengths=(4, 4, 4, 4), seed=2).ids
    ids = torch.cat([first.sequences, more], dim=1)
    mask = torch.cat([rows.mask, torch.ones(4, 9, dtype=torch.long)], dim=1)
    found = generate(model, ids, mask, 5, past_key_values=first.past_key_values)
    assert_same_tokens(found, generate(stock(family), ids, mask, 5))
    assert_ours_or_told(model, family, cache)


@SOME
@pytest.mark.parametrize("chunk", [3, 5, 12, 64])
def test_prompts_in_chunks(family, chunk):
    rows = batch(family, lengths=(5, 12, 3, 9))
    found = generate(ours(family), rows.ids, rows.mask, 8, prefill_chunk_size=chunk)
    assert_same_tokens(found, generate(stock(family), rows.ids, rows.mask, 8))


@CACHED_IN_MANY_WAYS
@pytest.mark.parametrize("cache", ["dynamic", "static", "ours"])
@pytest.mark.parametrize("chunks", [(7, 5), (11, 1), (1, 11), (3, 3, 3, 3)], ids=str)
def test_forwards_that_pass_the_cache_on(family, cache, chunks):
    rows = batch(family, lengths=(5, 12, 12, 9))
    expected = quietly(family.build(), **rows.asked()).last_hidden_state
    model = patch(family.build(implementation="sdpa"))
    past, start, found = CACHES[cache](model.config)["past_key_values"], 0, []
    for chunk in chunks:
        here = slice(start, start + chunk)
        out = quietly(
            model,
            rows.ids[:, here],
            attention_mask=rows.mask[:, : here.stop],
            position_ids=rows.positions[:, here],
            past_key_values=past,
        )
        assert out.past_key_values is past
        found.append(out.last_hidden_state)
        start += chunk
    assert int(past.get_seq_length()) == 12
    assert_close(torch.cat(found, dim=1)[rows.real], expected[rows.real])


@SOME
def test_a_forward_returns_a_cache_that_goes_on(family):
    """No cache was given: what comes back holds the prompt."""
    rows = batch(family, lengths=(5, 12, 3, 9))
    model = patch(family.build())
    out = quietly(model, rows.ids[:, :-1], attention_mask=rows.mask[:, :-1], use_cache=True)
    step = quietly(
        model,
        rows.ids[:, -1:],
        attention_mask=rows.mask,
        position_ids=rows.positions[:, -1:],
        past_key_values=out.past_key_values,
    )
    expected = quietly(family.build(), **rows.asked()).last_hidden_state
    assert_close(step.last_hidden_state[:, 0], expected[:, -1])
    without = quietly(model, **rows.inputs(), use_cache=False)
    assert without.past_key_values is None


@SOME
def test_embeddings_in_place_of_ids(family):
    rows = batch(family, lengths=LENGTHS)
    found = []
    for model in (stock(family), ours(family)):
        embeds = model.get_input_embeddings()(rows.ids).detach()
        found.append(generate(model, None, rows.mask, 8, inputs_embeds=embeds))
    assert_same_tokens(found[1], found[0])


@SOME
def test_prompt_lookup_equals_stock(family):
    rows = batch(family, lengths=(9,))
    ends = {"eos_token_id": 7}  # transformers 5.4.0 cannot do without
    found = generate(ours(family), rows.ids, None, 12, prompt_lookup_num_tokens=3, **ends)
    expected = generate(stock(family), rows.ids, None, 12, **ends)
    assert torch.equal(found.sequences, expected.sequences)


@SOME
def test_a_row_without_tokens_is_refused(family):
    rows = batch(family, lengths=LENGTHS)
    mask = rows.mask.clone()
    mask[2] = 0
    with pytest.raises((ValueError, RuntimeError), match="token"):
        generate(ours(family), rows.ids, mask, 4)


@SOME
def test_bfloat16_tokens_are_those_of_each_prompt_alone(family):
    """Whole bits: a tie between two rounded logits is one for the row alone, too."""
    rows = batch(family, lengths=LENGTHS)
    model = ours(family).bfloat16()
    found = generate(model, rows.ids, rows.mask, 12)
    alone = generate_alone(model, rows.ids, rows.mask, 12)
    for row, single in enumerate(alone):
        assert torch.equal(found.sequences[row, -12:], single.sequences[0, -12:])


def test_a_long_generate_leaves_its_prompt_behind():
    """No layer sees the prompt any more."""
    family = FAMILIES["mistral"]
    rows = batch(family, lengths=(40, 7))
    found = generate(ours(family), rows.ids, rows.mask, 60)
    assert_same_as_alone(found, generate_alone(stock(family), rows.ids, rows.mask, 60))
