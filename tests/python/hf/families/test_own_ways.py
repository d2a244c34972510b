"""What one family does in its own way: positions of OPT, layers of StableLM, tables of Phi-3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import SIDES, batch
from hf.families.compare import assert_ours, assert_path, assert_real_close
from hf.families.models import quietly, some
from hf.models import CACHE, generate
from hf.tokens import assert_same_tokens
from transformers import StaticCache

from masked_attn.hf import KVCache, patch, paths, report
from masked_attn.hf.attention.planned import running_plan

pytestmark = pytest.mark.integration

EACH_OPT = some("opt", "opt_350m")
EACH_STABLELM = some("stablelm", "stablelm_parallel")
LENGTHS = (5, 12, 3, 9)


@EACH_OPT
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("level", [True, False], ids=["counted", "as stock"])
def test_opt_counts_the_tokens_of_its_mask(family, side, level):
    """As stock code does by itself, so the level makes no difference, and nobody is warned."""
    rows = batch(family, side, LENGTHS)
    expected = quietly(family.build(implementation="sdpa"), **rows.inputs()).last_hidden_state
    model = patch(family.build(), positions_from_mask=level)
    ours = quietly(model, **rows.inputs()).last_hidden_state
    assert_ours(model)
    assert_real_close(ours, expected, rows.real)
    # The last slot is read by many: a pad there has position -1.
    assert_close(ours[:, -1], expected[:, -1])


@EACH_OPT
@pytest.mark.parametrize("cache", ["ours", "static"])
def test_opt_counts_in_steps_without_positions(family, cache):
    rows = batch(family, "left", LENGTHS)
    expected = quietly(family.build(), **rows.inputs()).last_hidden_state
    model = patch(family.build(implementation="sdpa"))
    past = KVCache() if cache == "ours" else StaticCache(config=model.config, max_cache_len=20)
    found = []
    for here in (slice(0, 7), slice(7, 11), slice(11, 12)):
        given = {"attention_mask": rows.mask[:, : here.stop], CACHE: past}
        found.append(quietly(model, rows.ids[:, here], **given).last_hidden_state)
        assert_ours(model)
    assert_real_close(torch.cat(found, dim=1), expected, rows.real)


@EACH_OPT
def test_opt_without_a_mask(family):
    rows = batch(family, lengths=(9, 9))
    expected = quietly(family.build(), rows.ids).last_hidden_state
    model = patch(family.build())
    assert_close(quietly(model, rows.ids, use_cache=False).last_hidden_state, expected)
    past = KVCache()
    first = quietly(model, rows.ids[:, :6], **{CACHE: past}).last_hidden_state
    second = quietly(model, rows.ids[:, 6:], **{CACHE: past}).last_hidden_state
    assert_close(torch.cat([first, second], 1), expected)


@some("opt", "gpt_oss")
def test_positions_that_jump_part_nothing(family):
    ids = batch(family, lengths=(9,)).ids
    jumps = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5]])
    given = {"position_ids": jumps, "use_cache": False}
    expected = quietly(family.build(), ids, **given).last_hidden_state
    model = patch(family.build())
    assert_close(quietly(model, ids, **given).last_hidden_state, expected)
    assert_path(model, "masked_attention")


@EACH_STABLELM
def test_a_plan_in_a_context_is_gone_after_the_forward(family):
    model, rows = patch(family.build()), batch(family)
    quietly(model, **rows.inputs())
    assert_path(model, "packed_attention")
    assert running_plan() is None
    model.layers[1].mlp.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        quietly(model, **rows.inputs())
    assert running_plan() is None


@EACH_STABLELM
def test_a_model_inside_another(family):
    """A hook of one model runs a second one, patched or left to stock code, in the same thread."""
    rows, others = batch(family), batch(family, "right", (4, 6), seed=2)
    inner_stock = family.build(seed=2)
    expected = [
        quietly(family.build(), **rows.asked()).last_hidden_state,
        quietly(inner_stock, **others.asked()).last_hidden_state,
    ]
    outer, inner = patch(family.build()), patch(family.build(seed=2))
    found = []

    def look(*_):
        found.append(quietly(inner, **others.asked()).last_hidden_state)
        found.append(quietly(inner, **others.asked(), softcap=1.0).last_hidden_state)
        assert set(paths(inner).values()) == {"stock"}

    outer.layers[0].mlp.register_forward_hook(look)
    ours = quietly(outer, **rows.asked()).last_hidden_state
    assert_ours(outer)
    assert_real_close(ours, expected[0], rows.real)
    assert len(found) == 2
    for mine in found:
        assert_close(mine[others.real], expected[1][others.real])


@EACH_STABLELM
def test_threads_do_not_mix_their_plans(family):
    model = patch(family.build("ForCausalLM"))
    batches = [batch(family, "left", (5, 12, n), seed=n) for n in range(1, 9)]
    alone = [quietly(model, **rows.inputs()).logits for rows in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: quietly(model, **rows.inputs()).logits, batches * 4))
    for mine, theirs in zip(found, alone * 4, strict=True):
        assert torch.equal(mine, theirs)


@EACH_STABLELM
def test_a_graph_runs_stock_attention(family):
    rows = batch(family)
    expected = quietly(family.build("ForCausalLM"), **rows.asked()).logits
    model = patch(family.build("ForCausalLM", implementation="sdpa"))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    ours = quietly(compiled, **rows.asked(), use_cache=False).logits
    assert_close(ours[rows.real], expected[rows.real])
    assert "hand no keyword on" in report(model)["layers"][0]["why"]


@EACH_STABLELM
def test_layers_that_are_run_again_have_no_plan(family):
    """Gradient checkpointing with attention weights: they come from eager attention."""
    rows = batch(family, "right", LENGTHS)
    found = []
    for model in (family.build(), patch(family.build())):
        model.train()
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()
        out = model(**rows.asked(), output_attentions=True, use_cache=False)
        out.last_hidden_state[rows.real].square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    assert set(paths(model).values()) == {"stock"}
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


# Other tables behind 16 positions.
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 16,
}


@some("phi3")
@pytest.mark.parametrize("lengths", [(5, 12, 3), (5, 20, 3), (14, 3)], ids=str)
def test_tables_of_the_longest_row(family, lengths):
    """The steps of the last batch go past the place where the tables change."""
    config = {
        "rope_parameters": LONGROPE,
        "original_max_position_embeddings": 16,
        "partial_rotary_factor": 1.0,
        "sliding_window": None,
    }
    rows = batch(family, "left", lengths)
    stock, model = (family.build("ForCausalLM", **config) for _ in range(2))
    patch(model)
    expected = quietly(stock, **rows.asked()).logits
    assert_real_close(quietly(model, **rows.inputs()).logits, expected, rows.real)
    assert_path(model, "packed_attention")
    tokens = [generate(one, rows.ids, rows.mask, 8) for one in (stock, model)]
    assert_same_tokens(tokens[1], tokens[0])
