"""One forward of a patched encoder: what stock code gives for real tokens, and each row alone."""

from __future__ import annotations

import inspect

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
from hf.families.models import ENCODERS, WINDOW, each, quietly, some

from masked_attn.hf import patch, paths

pytestmark = pytest.mark.integration

EACH = each(ENCODERS)
EACH_SIDE = pytest.mark.parametrize("side", SIDES)
POOLED = some("bert", "roberta", "xlm_roberta")
TYPED = some("bert", "roberta", "xlm_roberta", "electra")


def hidden(model, **inputs):
    return quietly(model, **inputs).last_hidden_state


@EACH
@EACH_SIDE
def test_real_tokens_equal_stock_and_each_row_alone(family, side):
    rows = batch(family, side)
    stock = family.build()
    model = patch(family.build(implementation="sdpa"))
    ours = hidden(model, **rows.inputs())
    assert_ours(model)
    assert_real_close(ours, hidden(stock, **rows.asked()), rows.real)
    # Windows count slots: a row with holes sees less than the same row without them.
    if not (family.windows and side == "holes"):
        assert_rows_close(ours, each_alone(stock, rows, "last_hidden_state"), rows.real)


@EACH
def test_right_padded_rows_equal_stock_as_it_comes(family):
    """The batches of every tokenizer: no positions are given to stock code either."""
    rows = batch(family, "right")
    expected = hidden(family.build(), **rows.inputs())
    assert_real_close(hidden(patch(family.build()), **rows.inputs()), expected, rows.real)


@EACH
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_runs_without_its_pads_which_are_zeros(family, side):
    rows = batch(family, side)
    model = patch(family.build())
    found = hidden(model, **rows.inputs())
    assert_padding_free(model)
    pads = ~rows.real
    pads[:, 0] = False  # poolers read the first slot
    assert not found[pads].any()


@EACH
def test_a_batch_of_a_tokenizer_is_packed(family):
    """Padded on the right: no row begins with a pad, which a pooler would read."""
    model = patch(family.build())
    hidden(model, **batch(family, "right").inputs())
    assert_path(model, "packed_attention")


@EACH
@pytest.mark.parametrize("mask", ["none", "ones", "boolean"])
@pytest.mark.parametrize("rows", [1, 3])
def test_batches_without_pads_equal_stock(family, mask, rows):
    given = batch(family, lengths=(9,) * rows)
    masks = {"none": None, "ones": given.mask, "boolean": given.real}
    expected = hidden(family.build(), input_ids=given.ids)
    model = patch(family.build())
    ours = hidden(model, input_ids=given.ids, attention_mask=masks[mask])
    assert_close(ours, expected)
    assert_ours(model)


@EACH
@EACH_SIDE
def test_one_row_with_pads(family, side):
    rows = batch(family, side, lengths=(7,))
    ids, mask, positions = (
        torch.nn.functional.pad(part, (0, 3), value=fill)
        for part, fill in (
            (rows.ids, family.settings["pad_token_id"]),
            (rows.mask, 0),
            (rows.positions, family.first_position()),
        )
    )
    expected = hidden(family.build(), input_ids=ids, attention_mask=mask, position_ids=positions)
    ours = hidden(patch(family.build()), input_ids=ids, attention_mask=mask)
    assert_real_close(ours, expected, mask.bool())


@EACH
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("empty", [[2], [0, 3], [0, 1, 2, 3]], ids=str)
def test_rows_without_tokens_are_finite_and_harm_no_other(family, side, empty):
    rows = batch(family, side)
    mask = rows.mask.clone()
    mask[empty] = 0
    expected = hidden(family.build(), **rows.asked())
    ours = hidden(patch(family.build()), input_ids=rows.ids, attention_mask=mask)
    assert_real_close(ours, expected, mask.bool())


@POOLED
@EACH_SIDE
def test_66_pooled_outputs_equal_stock(family, side):
    """The pooler reads the first slot, a pad where a row is padded on the left."""
    rows = batch(family, side)
    expected = quietly(family.build(implementation="sdpa"), **rows.asked())
    model = patch(family.build(implementation="sdpa"))
    ours = quietly(model, **rows.asked())
    assert_close(ours.pooler_output, expected.pooler_output)
    assert_close(ours.last_hidden_state[:, 0], expected.last_hidden_state[:, 0])
    assert_ours(model)


@TYPED
@EACH_SIDE
def test_kinds_of_tokens(family, side):
    rows = batch(family, side)
    kinds = torch.arange(rows.ids.numel()).view_as(rows.ids) % 3 % 2
    expected = hidden(family.build(), **rows.asked(), token_type_ids=kinds)
    model = patch(family.build())
    ours = hidden(model, **rows.inputs(), token_type_ids=kinds)
    assert_real_close(ours, expected, rows.real)
    assert_ours(model)


@EACH
@EACH_SIDE
def test_positions_of_the_caller_are_kept(family, side):
    rows = batch(family, side)
    asked = {**rows.inputs(), "position_ids": rows.positions.flip(1) + 3}
    expected = hidden(family.build(), **asked)
    model = patch(family.build())
    assert_real_close(hidden(model, **asked), expected, rows.real)
    assert_ours(model)


@EACH
@EACH_SIDE
def test_one_row_of_positions_is_for_every_row(family, side):
    rows = batch(family, side)
    positions = torch.arange(rows.ids.shape[1])[None] + family.first_position()
    asked = {**rows.inputs(), "position_ids": positions}
    expected = hidden(family.build(), **asked)
    assert_real_close(hidden(patch(family.build()), **asked), expected, rows.real)


@EACH
@EACH_SIDE
def test_positions_that_count_pads_are_those_of_stock(family, side):
    rows = batch(family, side)
    expected = hidden(family.build(), **rows.inputs())
    model = patch(family.build(), positions_from_mask=False)
    assert_real_close(hidden(model, **rows.inputs()), expected, rows.real)


@EACH
@EACH_SIDE
def test_embeddings_in_place_of_ids(family, side):
    rows = batch(family, side)
    model = patch(family.build())
    embeds = model.get_input_embeddings()(rows.ids).detach()
    expected = hidden(family.build(), **rows.asked())
    ours = hidden(model, inputs_embeds=embeds, attention_mask=rows.mask)
    assert_real_close(ours, expected, rows.real)
    assert_ours(model)


@EACH
@EACH_SIDE
def test_hidden_states_of_every_layer_equal_stock(family, side):
    rows = batch(family, side)
    expected = quietly(family.build(), **rows.asked(), output_hidden_states=True).hidden_states
    model = patch(family.build())
    ours = quietly(model, **rows.inputs(), output_hidden_states=True).hidden_states
    assert len(ours) == len(expected) == len(paths(model) or expected[1:]) + 1
    for mine, theirs in zip(ours, expected, strict=True):
        assert_real_close(mine, theirs, rows.real)


@EACH
@EACH_SIDE
def test_69_attention_weights_equal_eager(family, side):
    rows = batch(family, side)
    expected = quietly(family.build(), **rows.asked(), output_attentions=True)
    ours = quietly(
        patch(family.build(implementation="sdpa")), **rows.inputs(), output_attentions=True
    )
    assert_real_close(ours.last_hidden_state, expected.last_hidden_state, rows.real)
    assert len(ours.attentions) == len(expected.attentions) > 0
    for mine, theirs in zip(ours.attentions, expected.attentions, strict=True):
        assert mine.shape == theirs.shape
        assert_close(mine.transpose(1, 2)[rows.real], theirs.transpose(1, 2)[rows.real])


@some("modernbert")
@pytest.mark.parametrize("window", [1, 2, WINDOW, 11, 12, 64])
@EACH_SIDE
@pytest.mark.parametrize("lengths", [(5, 12, 1, 9), (5, 12, 3, 9), (7,)], ids=str)
def test_windows_shorter_and_longer_than_the_text(family, window, side, lengths):
    """A window counts slots, also where every row of the batch begins with a token."""
    rows = batch(family, side, lengths)
    expected = hidden(family.build(local_attention=2 * window), **rows.asked())
    model = patch(family.build(local_attention=2 * window))
    assert_real_close(hidden(model, **rows.inputs()), expected, rows.real)
    assert_ours(model)


@EACH
@EACH_SIDE
@pytest.mark.parametrize("level", ["fused", "padding_free", "fuse_activation", "fast_linear"])
def test_every_level_can_be_left_out(family, side, level):
    rows = batch(family, side)
    expected = hidden(family.build(), **rows.asked())
    model = patch(family.build(), **{level: False})
    assert_real_close(hidden(model, **rows.inputs()), expected, rows.real)


ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]


@some("bert", "distilbert", "modernbert")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(family, name):
    config = family.config()
    setting = next(
        key for key in ("hidden_act", "hidden_activation", "activation") if hasattr(config, key)
    )
    rows = batch(family, "right")
    if setting == "activation" and name not in ("gelu", "relu"):
        pytest.skip(f"{family.name} has no {name}")
    expected = hidden(family.build(**{setting: name}), **rows.asked())
    ours = hidden(patch(family.build(**{setting: name})), **rows.inputs())
    assert_real_close(ours, expected, rows.real)


@EACH
def test_what_pads_hold_has_no_influence(family):
    rows = batch(family, "right")
    model = patch(family.build())
    expected = hidden(model, **rows.inputs())
    ids = rows.ids.masked_fill(~rows.real, 77)
    ours = hidden(model, input_ids=ids, attention_mask=rows.mask)
    assert torch.equal(ours[rows.real], expected[rows.real])


@EACH
def test_a_tuple_where_no_dict_is_wanted(family):
    rows = batch(family, "right")
    expected = quietly(family.build(), **rows.asked(), return_dict=False)
    ours = quietly(patch(family.build()), **rows.inputs(), return_dict=False)
    assert isinstance(ours, tuple) and len(ours) == len(expected)
    assert_real_close(ours[0], expected[0], rows.real)


@EACH
def test_arguments_by_position(family):
    """``model(ids, mask)``, in the order of stock code."""
    rows = batch(family, "right")
    names = list(inspect.signature(type(family.build()).forward).parameters)[1:3]
    assert names == ["input_ids", "attention_mask"]
    expected = quietly(family.build(), rows.ids, rows.mask).last_hidden_state
    ours = quietly(patch(family.build()), rows.ids, rows.mask).last_hidden_state
    assert_real_close(ours, expected, rows.real)


@EACH
def test_feed_forward_in_chunks_of_tokens(family):
    """Their size divides the padded length, not the number of real tokens."""
    rows = batch(family, "right")
    size = 4
    assert rows.ids.shape[1] % size == 0 != int(rows.mask.sum()) % size
    expected = hidden(family.build(chunk_size_feed_forward=size), **rows.asked())
    model = patch(family.build(chunk_size_feed_forward=size))
    assert_real_close(hidden(model, **rows.inputs()), expected, rows.real)
    assert_ours(model)


@EACH
def test_12_a_mask_of_another_shape_is_refused_as_by_stock(family):
    """Its values are as many as the tokens, but they lie otherwise."""
    ids, mask = torch.full((3, 6), 7), torch.ones(6, 3, dtype=torch.long)
    mask[0, 1] = 0
    for model in (family.build(), patch(family.build())):
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            hidden(model, input_ids=ids, attention_mask=mask)


@EACH
def test_bfloat16_is_as_near_to_the_truth_as_stock(family):
    rows = batch(family, "right")
    stock = family.build(implementation="sdpa").bfloat16()
    rounded = hidden(stock, **rows.asked())
    truth = hidden(stock.double(), **rows.asked())
    model = patch(family.build().bfloat16())
    ours = hidden(model, **rows.inputs())
    assert_ours(model)
    assert ours.dtype == torch.bfloat16
    errors = [(found.double() - truth)[rows.real] for found in (ours, rounded)]
    mine, theirs = (float(error.square().mean().sqrt()) for error in errors)
    assert mine <= 1.5 * theirs + 1e-3
