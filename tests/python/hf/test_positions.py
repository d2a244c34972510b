"""Positions without ``position_ids``: a row does not depend on its padding."""

from __future__ import annotations

import warnings

import pytest
import torch

pytest.importorskip("transformers")

from hf.heads import CHOICES
from hf.models import CACHE, gpt2, positions_of, prompts
from hf.test_padding_free import CACHES, counts
from transformers import GPT2DoubleHeadsModel, GPT2Model

from masked_attn.hf import patch, unpatch
from masked_attn.hf.call import positions
from masked_attn.hf.call.forward_call import ForwardCall
from masked_attn.hf.families.gpt2 import GPT2

pytestmark = pytest.mark.integration

IDS, LEFT = prompts([5, 9, 3])
RIGHT_IDS, RIGHT = prompts([5, 9, 3], side="right")
HOLES = torch.tensor(
    [[0, 0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1]]
)
PADDING_FREE = pytest.mark.parametrize("padding_free", [True, False])


def close(ours, expected):
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=2e-4)


@PADDING_FREE
def test_a_row_is_the_same_alone_and_padded_on_either_side(padding_free):
    model = patch(gpt2(), padding_free=padding_free)
    with torch.no_grad():
        left = model(IDS, attention_mask=LEFT).logits
        right = model(RIGHT_IDS, attention_mask=RIGHT).logits
        for row, real in enumerate(LEFT.bool()):
            alone = gpt2()(IDS[row, real][None]).logits[0]
            close(left[row, real], alone)
            close(right[row, RIGHT[row].bool()], alone)


@PADDING_FREE
@pytest.mark.parametrize("mask", [LEFT, HOLES], ids=["left", "holes"])
def test_real_tokens_count_real_tokens(mask, padding_free):
    model = patch(gpt2(), padding_free=padding_free)
    real = mask.bool()
    with torch.no_grad():
        expected = gpt2()(IDS, attention_mask=mask, position_ids=positions_of(mask)).logits
        close(model(IDS, attention_mask=mask).logits[real], expected[real])


@PADDING_FREE
@pytest.mark.parametrize("cache", [name for name in CACHES if name != "half-cache"])
@pytest.mark.parametrize("mask", [LEFT, HOLES], ids=["left", "holes"])
def test_a_prompt_in_two_parts(mask, cache, padding_free):
    model, real = patch(gpt2(), padding_free=padding_free), mask.bool()
    with torch.no_grad():
        expected = gpt2()(IDS, attention_mask=mask, position_ids=positions_of(mask)).logits
        past = CACHES[cache](model.config)
        if past is None:
            return
        first = model(IDS[:, :6], attention_mask=mask[:, :6], **{CACHE: past}).logits
        # The mask of a static cache may speak of all its slots, also of those to come.
        spare = 9 if cache == "static" else 0
        wide = torch.nn.functional.pad(mask, (0, spare), value=1)
        second = model(IDS[:, 6:], attention_mask=wide, **{CACHE: past}).logits
    close(torch.cat([first, second], dim=1)[real], expected[real])


@PADDING_FREE
def test_padded_on_the_right_all_that_is_read_is_stocks(padding_free):
    stock, model = gpt2(), patch(gpt2(), padding_free=padding_free)
    read = counts(RIGHT) if padding_free else torch.ones_like(RIGHT).bool()
    with torch.no_grad():
        ours, expected = (m(RIGHT_IDS, attention_mask=RIGHT).logits for m in (model, stock))
    close(ours[read], expected[read])


def test_masks_of_one_prompt_and_of_choices():
    mask = torch.tensor([0, 0, 1, 1, 0, 1, 1, 1, 1])
    given = {"attention_mask": mask, "position_ids": positions_of(mask[None])}
    stock, model = (gpt2(model_class=GPT2Model) for _ in range(2))
    with torch.no_grad():
        expected = stock(IDS[1], **given).last_hidden_state[mask.bool()]
        close(patch(model)(IDS[1], attention_mask=mask).last_hidden_state[mask.bool()], expected)
        stock, model = (gpt2(model_class=GPT2DoubleHeadsModel) for _ in range(2))
        real = CHOICES["attention_mask"]
        expected = stock(**CHOICES)
        ours = patch(model)(**{**CHOICES, "position_ids": None})
    close(ours.logits[real.bool()], expected.logits[real.bool()])
    close(ours.mc_logits, expected.mc_logits)


def test_masks_of_other_kinds_count_as_stock_does():
    square = LEFT[:, None, None, :].bool() & torch.ones(9, 9).tril().bool()
    for mask in (square, torch.ones(3, 12, dtype=torch.long)):
        results = []
        for model in (gpt2(), patch(gpt2())):
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                try:
                    results.append(model(IDS, attention_mask=mask).logits[LEFT.bool()])
                except (RuntimeError, ValueError) as error:
                    results.append(str(error))
        if isinstance(results[0], str):
            assert results[0] == results[1]
        else:
            close(results[1], results[0])


@pytest.mark.filterwarnings("error")
def test_switched_off_it_counts_as_stock_does_and_says_so_once():
    model = patch(gpt2(), positions_from_mask=False)
    with torch.no_grad():
        model(RIGHT_IDS, attention_mask=RIGHT)
        model(IDS, attention_mask=LEFT, position_ids=positions_of(LEFT))
        with pytest.warns(UserWarning, match="patch with positions_from_mask=True") as seen:
            ours = model(IDS, attention_mask=LEFT).logits[LEFT.bool()]
        assert len(seen) == 1
        close(ours, gpt2()(IDS, attention_mask=LEFT).logits[LEFT.bool()])
        model(IDS, attention_mask=LEFT)
        patch(unpatch(model), positions_from_mask=True)(IDS, attention_mask=LEFT)


def test_a_mask_on_another_device_is_moved():
    """As stock code moves it: the positions are looked up beside the ids."""
    ids, mask = IDS.to("meta"), LEFT
    for cache in (None, CACHES["static"](gpt2().config)):
        arguments = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
        assert (
            positions.count_real_tokens(GPT2, None, ForwardCall.of(arguments)).device == ids.device
        )
