"""Pads whose result somebody reads, as the last slot of a right-padded batch: what stock gives."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import CACHE, VOCAB, fill, gpt2, positions_of, prompts
from hf.test_padding_free import CACHES, counts, tokens_seen
from transformers import (
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
)

from masked_attn import report
from masked_attn.hf import patch

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:masked_attn. stock attention runs"),
]

IDS, RIGHT = prompts([5, 9, 3], side="right")
OTHER_IDS = IDS.masked_fill(RIGHT == 0, 7)  # pads that are not config.pad_token_id
HOLES = torch.tensor(
    [[0, 0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1]]
)
EMBEDS = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(2))


def close(ours, expected):
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=2e-4)


def both(model_class=GPT2LMHeadModel, **config):
    """Stock and ours, of equal weights."""
    return (
        gpt2(model_class=model_class, **config),
        patch(gpt2(model_class=model_class, **config)),
    )


def some_separators(ids):
    """The mask hides a token that is no pad, with pads behind it."""
    ids = ids.clone()
    ids[0, 6], ids[2, 5] = 11, 12
    return ids


CLASSIFIED = {
    "pads-of-another-id": {"input_ids": OTHER_IDS},
    "hidden-tokens-before-the-pads": {"input_ids": some_separators(IDS)},
    "embeddings": {"inputs_embeds": EMBEDS},
}


@pytest.mark.filterwarnings("ignore:.*will not detect padding tokens")
@pytest.mark.parametrize(
    ("inputs", "mask"),
    [
        ("pads-of-another-id", RIGHT),
        ("pads-of-another-id", HOLES),
        ("embeddings", RIGHT),
        ("embeddings", HOLES),
        ("hidden-tokens-before-the-pads", RIGHT),
    ],
    ids=lambda part: part if isinstance(part, str) else "right" if part is RIGHT else "holes",
)
def test_66_classes(inputs, mask):
    stock, model = both(GPT2ForSequenceClassification, num_labels=3)
    given = {"attention_mask": mask, "position_ids": positions_of(mask), **CLASSIFIED[inputs]}
    with torch.no_grad():
        ours, expected = (m(**given).logits for m in (model, stock))
    close(ours, expected)
    assert report(model)["padding_free"]
    assert len(ours.round(decimals=3).unique(dim=0)) == 3, "the text does not matter"


def test_66_classes_without_a_pad_token():
    stock, model = both(GPT2ForSequenceClassification, num_labels=3, pad_token_id=None)
    for row in range(3):
        given = {"input_ids": IDS[row : row + 1], "attention_mask": RIGHT[row : row + 1]}
        with torch.no_grad():
            close(model(**given).logits, stock(**given).logits)


@pytest.mark.parametrize("choices", [1, 3], ids=["rows", "choices"])
def test_66_choices_without_mc_token_ids(choices):
    ids, mask = (
        part if choices == 1 else torch.stack([part, part.flip(0), part.roll(1, 0)], 1)
        for part in (IDS, RIGHT)
    )
    stock, model = both(GPT2DoubleHeadsModel)
    with torch.no_grad():
        ours, expected = (m(ids, attention_mask=mask) for m in (model, stock))
    close(ours.mc_logits, expected.mc_logits)
    close(ours.logits[mask.bool()], expected.logits[mask.bool()])
    assert report(model)["padding_free"]
    assert len(ours.mc_logits.round(decimals=3).unique()) == 3


def loop(model, ids, mask, *, cache, positions, steps=5):
    """A caller's own loop: it reads the last slot and lets the mask grow."""
    given, seen = ids, []
    for _ in range(steps):
        inputs = {"attention_mask": mask, "use_cache": cache is not None}
        if positions:
            inputs["position_ids"] = positions_of(mask)[:, -given.shape[1] :]
        if cache is not None:
            inputs[CACHE] = cache
        with torch.no_grad():
            logits = model(given, **inputs).logits[:, -1]
        seen.append(logits)
        token = logits.argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], dim=1)
        given = ids if cache is None else token
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    return torch.stack(seen)


@pytest.mark.filterwarnings("ignore:The attention mask is not set")
@pytest.mark.parametrize("cache", [name for name in CACHES if name != "half-cache"])
@pytest.mark.parametrize("mask", [RIGHT, HOLES], ids=["right", "holes"])
def test_66_a_loop_over_the_last_slot(cache, mask):
    results = [
        loop(model, IDS, mask, cache=CACHES[cache](model.config), positions=True)
        for model in both()
    ]
    close(results[1], results[0])
    assert all(len(row.unique()) > 2 for row in results[0].argmax(-1).T)


@pytest.mark.parametrize("padding_free", [True, False])
def test_66_the_first_token_of_a_loop_without_positions(padding_free):
    stock, model = gpt2(), patch(gpt2(), padding_free=padding_free)
    seen = tokens_seen(model)
    with torch.no_grad():
        close(
            model(IDS, attention_mask=RIGHT).logits[:, -1],
            stock(IDS, attention_mask=RIGHT).logits[:, -1],
        )
    # Two of the three rows end with a pad; their other pads are left out.
    assert seen == [(1, 17 + 2) if padding_free else (3, 9)]


@pytest.mark.parametrize("cache", [name for name in CACHES if name != "half-cache"])
def test_66_a_second_prompt_padded_on_the_right(cache):
    more_ids, more = prompts([1, 4, 2], side="right", seed=5)
    whole, results = torch.cat([HOLES, more], dim=1), []
    for model in both():
        past = CACHES[cache](model.config)
        use = {CACHE: past, "use_cache": past is not None}
        given = (IDS, HOLES), (more_ids, whole)
        if past is None:
            given = ((torch.cat([IDS, more_ids], dim=1), whole),)
        with torch.no_grad():
            out = [
                model(
                    ids,
                    attention_mask=mask,
                    position_ids=positions_of(mask)[:, -ids.shape[1] :],
                    **use,
                ).logits[:, -1]
                for ids, mask in given
            ]
        results.append(torch.stack(out))
    close(results[1], results[0])


@pytest.mark.parametrize("grad", [False, True], ids=["no-grad", "grad"])
def test_66_a_pad_before_a_real_token_predicts_it(grad):
    """The loss of every real token but the first of its row is that of stock, over holes too."""
    begun = HOLES.cumsum(-1) > 0
    labels = IDS.masked_fill((HOLES == 0) | ~torch.nn.functional.pad(begun, (1, -1)), -100)
    results = []
    for model in both():
        with torch.set_grad_enabled(grad):
            given = {"attention_mask": HOLES, "position_ids": positions_of(HOLES)}
            loss = model(IDS, labels=labels, **given).loss
        if grad:
            loss.backward()
            results.append([loss.detach(), *(p.grad for p in model.parameters())])
        else:
            results.append([loss])
    assert report(model)["padding_free"]
    for ours, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)


def test_66_hidden_states_of_every_layer_hold_the_last_slot():
    stock, model = both(GPT2Model)
    given = {"input_ids": IDS, "attention_mask": RIGHT, "output_hidden_states": True}
    with torch.no_grad():
        ours, expected = (m(**given).hidden_states for m in (model, stock))
    unread = RIGHT == 0
    unread[:, -1] = False
    for a, b in zip(ours, expected, strict=True):
        close(a[:, -1], b[:, -1])
        assert not a[unread].any()


def test_rows_without_a_token_are_zeros():
    mask = RIGHT.clone()
    mask[2] = 0
    stock, model = both(GPT2Model)
    with torch.no_grad():
        ours, expected = (m(IDS, attention_mask=mask).last_hidden_state for m in (model, stock))
    close(ours[:2, -1], expected[:2, -1])
    assert not ours[2].any()


def test_pads_on_the_left_stay_out_of_attention():
    """Nobody reads them, so nothing but packed_attention is needed."""
    model = patch(gpt2())
    ids, left = prompts([5, 9, 3])
    with torch.no_grad():
        model(ids, attention_mask=left)
    assert {layer["path"] for layer in report(model)["layers"]} == {"packed_attention"}


def test_every_pad_is_read():
    """Rows that lack one token: nothing is left to drop."""
    stock, model = both()
    mask = torch.ones(2, 4, dtype=torch.long)
    mask[0, -1] = 0
    with torch.no_grad():
        close(
            model(IDS[:2, :4], attention_mask=mask).logits,
            stock(IDS[:2, :4], attention_mask=mask).logits,
        )


@pytest.mark.parametrize("seed", range(12))
def test_66_random_masks(seed):
    generator = torch.Generator().manual_seed(seed)
    batch, tokens = 1 + seed % 4, 2 + seed
    ids = torch.randint(1, VOCAB, (batch, tokens), generator=generator)
    mask = (torch.rand(batch, tokens, generator=generator) < 0.4 + 0.04 * seed).long()
    given = {"attention_mask": mask, "position_ids": positions_of(mask)}
    stock, model = both()
    fill(stock, seed, 0.2)
    fill(model, seed, 0.2)
    for half in (False, True):
        with torch.no_grad():
            if half:
                cache, parts = CACHES["kv-cache"](None), []
                for part in (slice(0, tokens // 2), slice(tokens // 2, tokens)):
                    seen = {"attention_mask": mask[:, : part.stop], CACHE: cache}
                    positions = given["position_ids"][:, part]
                    parts.append(model(ids[:, part], position_ids=positions, **seen).logits)
                ours = torch.cat(parts, dim=1)
            else:
                ours = model(ids, **given).logits
            close(ours[counts(mask)], stock(ids, **given).logits[counts(mask)])
