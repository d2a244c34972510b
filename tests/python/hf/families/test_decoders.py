"""One forward of a patched decoder: what stock code gives for real tokens, and each row alone."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import SIDES, batch, each_alone
from hf.families.compare import (
    assert_ours,
    assert_padding_free,
    assert_path,
    assert_real_close,
    assert_rows_close,
)
from hf.families.models import DECODERS, FAMILIES, WINDOW, each, in_float64, quietly, some

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

EACH = each(DECODERS)
SOME = some("llama", "qwen3", "mistral", "gemma3", "stablelm", "opt", "gemma2", "gpt_oss")
EACH_SIDE = pytest.mark.parametrize("side", SIDES)


def holes_count_in_windows(family, side):
    """Windows count slots: a row with holes sees less than the same row without them."""
    return family.windows and side == "holes"


@EACH
@EACH_SIDE
@pytest.mark.parametrize(
    ("head", "output"),
    [("Model", "last_hidden_state"), ("ForCausalLM", "logits")],
    ids=["hidden states", "logits"],
)
def test_real_tokens_equal_stock_and_each_row_alone(family, side, head, output):
    rows = batch(family, side)
    stock = family.build(head)
    expected = quietly(stock, **rows.asked())[output]
    model = patch(family.build(head, implementation="sdpa"))
    ours = quietly(model, **rows.inputs())[output]
    assert_ours(model)
    assert_real_close(ours, expected, rows.real)
    if not holes_count_in_windows(family, side):
        assert_rows_close(ours, each_alone(stock, rows, output), rows.real)


@EACH
def test_a_prompt_padded_on_the_left_is_packed(family):
    model = patch(family.build())
    quietly(model, **batch(family, "left").inputs())
    assert_path(model, "packed_attention")


@EACH
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_prompt_runs_without_the_pads_that_nobody_reads(family, side):
    """The last slot of a row is read by many, so one pad of a right-padded row stays."""
    model = patch(family.build())
    quietly(model, **batch(family, side).inputs())
    assert_padding_free(model)


@EACH
@pytest.mark.parametrize("mask", ["none", "ones"])
def test_batches_without_pads_equal_stock(family, mask):
    rows = batch(family, lengths=(9, 9, 9))
    given = {"attention_mask": rows.mask} if mask == "ones" else {}
    expected = quietly(family.build(), rows.ids).last_hidden_state
    model = patch(family.build())
    assert_close(quietly(model, rows.ids, **given).last_hidden_state, expected)
    assert_ours(model)


@SOME
def test_positions_of_the_caller_are_kept(family):
    rows = batch(family, "left")
    positions = rows.positions * 3
    asked = {**rows.inputs(), "position_ids": positions}
    expected = quietly(family.build(), **asked).last_hidden_state
    model = patch(family.build())
    assert_real_close(quietly(model, **asked).last_hidden_state, expected, rows.real)
    assert_ours(model)


@SOME
@EACH_SIDE
def test_positions_that_count_pads_are_those_of_stock(family, side):
    rows = batch(family, side)
    expected = quietly(family.build(), **rows.inputs()).last_hidden_state
    model = patch(family.build(), positions_from_mask=False)
    assert_real_close(quietly(model, **rows.inputs()).last_hidden_state, expected, rows.real)
    assert_ours(model)


@SOME
@EACH_SIDE
@pytest.mark.parametrize(
    "level", ["fused", "padding_free", "fuse_activation", "fast_linear"], ids=lambda name: name
)
def test_every_level_can_be_left_out(family, side, level):
    rows = batch(family, side)
    expected = quietly(family.build(), **rows.asked()).last_hidden_state
    model = patch(family.build(), **{level: False})
    assert_real_close(quietly(model, **rows.inputs()).last_hidden_state, expected, rows.real)


@some("mistral", "qwen2_windows", "gemma3", "phi3", "gemma2", "gpt_oss")
@pytest.mark.parametrize("window", [1, 2, WINDOW, 11, 12, 13, 64])
@EACH_SIDE
@pytest.mark.parametrize("lengths", [(5, 12, 1, 9), (7,)], ids=str)
def test_windows_shorter_and_longer_than_the_prompt(family, window, side, lengths):
    rows = batch(family, side, lengths)
    expected = quietly(family.build(sliding_window=window), **rows.asked()).last_hidden_state
    model = patch(family.build(sliding_window=window))
    ours = quietly(model, **rows.inputs()).last_hidden_state
    assert_ours(model)
    assert_real_close(ours, expected, rows.real)


@pytest.mark.parametrize(("family", "others"), [("mistral", 12), ("gemma3", 12)])
def test_a_window_changes_what_is_seen(family, others):
    """Else the tests of windows would prove nothing."""
    rows = batch(FAMILIES[family], "left")
    near, far = (
        quietly(FAMILIES[family].build(sliding_window=window), **rows.asked()).last_hidden_state
        for window in (WINDOW, others)
    )
    assert (near - far)[1, -1].abs().max() > 0.05


@EACH
def test_hidden_states_of_every_layer_equal_stock(family):
    rows = batch(family, "left")
    expected = quietly(family.build(), **rows.asked(), output_hidden_states=True).hidden_states
    model = patch(family.build())
    ours = quietly(model, **rows.inputs(), output_hidden_states=True).hidden_states
    assert len(ours) == len(expected) == model.config.num_hidden_layers + 1
    for mine, theirs in zip(ours, expected, strict=True):
        assert_real_close(mine, theirs, rows.real)


@EACH
@EACH_SIDE
def test_69_attention_weights_equal_eager(family, side):
    rows = batch(family, side)
    expected = quietly(family.build(), **rows.asked(), output_attentions=True)
    model = patch(family.build(implementation="sdpa"))
    ours = quietly(model, **rows.inputs(), output_attentions=True)
    assert_real_close(ours.last_hidden_state, expected.last_hidden_state, rows.real)
    assert len(ours.attentions) == model.config.num_hidden_layers
    for mine, theirs in zip(ours.attentions, expected.attentions, strict=True):
        assert mine.shape == theirs.shape
        assert_close(mine.transpose(1, 2)[rows.real], theirs.transpose(1, 2)[rows.real])


@SOME
@EACH_SIDE
def test_embeddings_in_place_of_ids(family, side):
    rows = batch(family, side)
    model = patch(family.build())
    embeds = model.get_input_embeddings()(rows.ids).detach()
    expected = quietly(family.build(), **rows.asked()).last_hidden_state
    ours = quietly(model, inputs_embeds=embeds, attention_mask=rows.mask).last_hidden_state
    assert_real_close(ours, expected, rows.real)
    assert_ours(model)


@some("llama", "qwen3", "stablelm", "opt", "gemma2", "gpt_oss")
@pytest.mark.parametrize("kind", ["boolean", "float"])
def test_masks_of_four_dimensions_equal_stock(family, kind):
    if kind == "boolean" and not family.plain:
        pytest.skip("stock eager adds a boolean mask, and it is the only stock attention here")
    rows = batch(family, "left")
    slots = rows.ids.shape[1]
    seen = rows.real[:, None, None] & torch.ones(slots, slots).tril().bool()
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    # Stock eager would add a boolean mask.
    how = {"implementation": "sdpa" if kind == "boolean" else "eager"}
    given = {"attention_mask": seen if kind == "boolean" else mask, "position_ids": rows.positions}
    expected = quietly(family.build(**how), rows.ids, **given).last_hidden_state
    ours = quietly(patch(family.build(**how)), rows.ids, **given).last_hidden_state
    assert_close(ours[rows.real], expected[rows.real])


@EACH
@pytest.mark.parametrize("side", ["left", "holes"])
@pytest.mark.parametrize("keep", [1, 3])
def test_logits_of_the_last_tokens(family, side, keep):
    rows = batch(family, side)
    expected = quietly(family.build("ForCausalLM"), **rows.asked(), logits_to_keep=keep).logits
    model = patch(family.build("ForCausalLM"))
    ours = quietly(model, **rows.inputs(), logits_to_keep=keep).logits
    assert_real_close(ours, expected, rows.real[:, -keep:])
    assert_ours(model)


@SOME
def test_66_the_last_slot_of_a_right_padded_batch_is_what_stock_gives(family):
    """Loops of users read it: a pad that sees the row before it."""
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    positions = torch.arange(12).expand(4, 12)
    asked = {**rows.inputs(), "position_ids": positions, "logits_to_keep": 1}
    expected = quietly(family.build("ForCausalLM", implementation="sdpa"), **asked).logits
    ours = quietly(patch(family.build("ForCausalLM")), **asked).logits
    seen = (12 - torch.tensor([5, 12, 3, 9])) < (WINDOW if family.windows else 12)
    assert_close(ours[seen], expected[seen])


@SOME
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_without_tokens_harms_no_other(family, side):
    rows = batch(family, side)
    mask = rows.mask.clone()
    mask[2] = 0
    expected = quietly(family.build(), **rows.asked()).last_hidden_state
    ours = quietly(patch(family.build()), rows.ids, attention_mask=mask).last_hidden_state
    assert_real_close(ours, expected, mask.bool())


@SOME
def test_what_pads_hold_has_no_influence(family):
    rows = batch(family, "left")
    model = patch(family.build())
    expected = quietly(model, **rows.inputs()).last_hidden_state
    ids = rows.ids.masked_fill(~rows.real, 77)
    ours = quietly(model, ids, attention_mask=rows.mask).last_hidden_state
    assert torch.equal(ours[rows.real], expected[rows.real])


@SOME
def test_a_tuple_where_no_dict_is_wanted(family):
    rows = batch(family, "left")
    expected = quietly(family.build("ForCausalLM"), **rows.asked(), return_dict=False)
    ours = quietly(patch(family.build("ForCausalLM")), **rows.inputs(), return_dict=False)
    assert isinstance(ours, tuple) and len(ours) == len(expected)
    assert_real_close(ours[0], expected[0], rows.real)


@EACH
@EACH_SIDE
def test_bfloat16_is_as_near_to_the_truth_as_stock(family, side):
    rows = batch(family, side)
    # Stock eager has NaN in pads in float64, and they leak.
    stock = family.build(implementation="sdpa").bfloat16()
    rounded = quietly(stock, **rows.asked()).last_hidden_state
    stock = in_float64(stock) if family.plain else stock.float()
    truth = quietly(stock, **rows.asked()).last_hidden_state
    model = patch(family.build().bfloat16())
    ours = quietly(model, **rows.inputs()).last_hidden_state
    assert_ours(model)
    assert ours.dtype == torch.bfloat16
    errors = [(found.double() - truth)[rows.real].square().mean(-1) for found in (ours, rounded)]
    # A token whose experts are as good as equal may get another one.
    over_tokens = torch.median if family.experts else torch.mean
    mine, theirs = (float(over_tokens(error).sqrt()) for error in errors)
    assert mine <= 1.5 * theirs + 1e-3
