"""T5, BART and their like with attn_implementation="masked_attn": stock numbers, our attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.interface_others.models import BIASED, ENCODER_DECODERS, PLAIN
from hf.models import generate, prompts
from hf.tokens import assert_same_as_alone, assert_same_tokens
from support.calls import CallCounter

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

LENGTHS = [5, 9, 3]
TARGETS = [4, 2, 6]
CLOSE = {"atol": 2e-4, "rtol": 1e-4}
LAYERS = 2
some = pytest.mark.parametrize("name", ["t5", "bart"])
each = pytest.mark.parametrize("name", ENCODER_DECODERS)


def inputs(side: str = "right") -> dict[str, torch.Tensor]:
    ids, mask = prompts(LENGTHS, side=side)
    targets, target_mask = prompts(TARGETS, side=side, seed=2)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": targets,
        "decoder_attention_mask": target_mask,
    }


def real(out: Any, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What a forward says of tokens that are there."""
    encoder, decoder = given["attention_mask"].bool(), given["decoder_attention_mask"].bool()
    return [out.encoder_last_hidden_state[encoder], out.logits[decoder]]


def attention_calls(name: str, decoder_steps: int = 1) -> int:
    """Of one encoder, and of decoders with a self-attention and a cross attention in each layer."""
    kind = ENCODER_DECODERS[name]
    if not kind.on_interface():
        return 0
    return LAYERS * (not kind.own_encoder) + 2 * LAYERS * decoder_steps


@pytest.mark.parametrize("side", ["left", "right"])
@each
def test_a_padded_forward_equals_stock(name, side):
    given = inputs(side)
    with torch.no_grad():
        expected = ENCODER_DECODERS[name].build("eager")(**given)
        with CallCounter() as calls:
            ours = ENCODER_DECODERS[name].build("masked_attn")(**given)
    torch.testing.assert_close(real(ours, given), real(expected, given), **CLOSE)
    assert calls.counts == {"masked_attention": attention_calls(name)} or not attention_calls(name)


@each
def test_a_forward_without_masks_equals_stock(name):
    ids, _ = prompts([9, 9])
    with torch.no_grad():
        results = [
            ENCODER_DECODERS[name].build(way)(ids, decoder_input_ids=ids.flip(1)).logits
            for way in ("masked_attn", "eager")
        ]
    torch.testing.assert_close(*results, **CLOSE)


@pytest.mark.parametrize("beams", [1, 3])
@each
def test_generate_equals_each_row_alone(name, beams):
    ids, mask = prompts(LENGTHS, side="right")
    ours, stock = (ENCODER_DECODERS[name].build(way) for way in ("masked_attn", "eager"))
    # Tiny models say one word for ever, unless they are told not to.
    more = {"num_beams": beams, "no_repeat_ngram_size": 1}
    with CallCounter() as calls:
        together = generate(ours, ids, mask, 12, **more)
    alone = [
        generate(stock, ids[row : row + 1, :length], None, 12, **more)
        for row, length in enumerate(LENGTHS)
    ]
    assert len(together.sequences.unique(dim=0)) == len(LENGTHS)
    if beams == 1:
        assert_same_as_alone(together, alone)
    else:
        assert torch.equal(together.sequences, torch.cat([one.sequences for one in alone]))
    assert calls["masked_attention"] == attention_calls(name, 12)


@pytest.mark.parametrize(
    "mode", [{"cache_implementation": "static"}, {"use_cache": False}], ids=["static", "no-cache"]
)
@some
def test_other_ways_to_generate_equal_stock(name, mode):
    ids, mask = prompts(LENGTHS, side="right")
    ours, stock = (
        generate(ENCODER_DECODERS[name].build(way), ids, mask, 8, **mode)
        for way in ("masked_attn", "eager")
    )
    assert_same_tokens(ours, stock)


@some
def test_attentions_are_those_of_eager(name):
    given = inputs()
    with torch.no_grad():
        ours, stock = (
            ENCODER_DECODERS[name].build(way)(**given, output_attentions=True)
            for way in ("masked_attn", "eager")
        )
    encoder, decoder = given["attention_mask"].bool(), given["decoder_attention_mask"].bool()
    asked = {
        "encoder_attentions": (encoder, encoder),
        "decoder_attentions": (decoder, decoder),
        "cross_attentions": (decoder, encoder),
    }
    for which, (queries, keys) in asked.items():
        assert len(ours[which]) == len(stock[which]) == LAYERS
        for mine, theirs in zip(ours[which], stock[which], strict=True):
            mine, theirs = (weights.transpose(1, 2)[queries] for weights in (mine, theirs))
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
            pads = ~keys[queries.nonzero()[:, 0]][:, None].expand(mine.shape)
            assert not mine[pads].any()


@pytest.mark.parametrize("name", ["t5", "umt5", "bart"])
def test_gradients_equal_stock(name):
    given, grads = inputs(), []
    labels = given["decoder_input_ids"].masked_fill(given["decoder_attention_mask"] == 0, -100)
    for way in ("masked_attn", "eager"):
        model = ENCODER_DECODERS[name].build(way)
        model(**given, labels=labels).loss.backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-3)
    if name in BIASED:
        found = [g for n, g in grads[0].items() if "relative_attention_bias" in n]
        assert found and all(g.abs().max() > 0 for g in found)


@some
def test_dropout_runs_the_stock_code(name):
    given, results = inputs(), []
    rates = {"dropout_rate": 0.4} if name in BIASED else {"attention_dropout": 0.4}
    stock = "sdpa" if ENCODER_DECODERS[name].on_interface() else "eager"
    for way in ("masked_attn", stock):
        model = ENCODER_DECODERS[name].build(way, **rates).train()
        torch.manual_seed(4)
        with torch.no_grad():
            results.append(real(model(**given), given))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


@some
def test_bfloat16_is_as_close_as_stock(name):
    given = inputs()
    with torch.no_grad():
        truth = real(ENCODER_DECODERS[name].build("eager").double()(**given), given)
        ours, stock = (
            real(ENCODER_DECODERS[name].build(way).bfloat16()(**given), given)
            for way in ("masked_attn", "eager")
        )
    for mine, theirs, exact in zip(ours, stock, truth, strict=True):
        worst = (theirs.double() - exact).abs().max()
        assert (mine.double() - exact).abs().max() <= 2 * worst + 1e-3


@some
def test_autocast_runs(name):
    given = inputs()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        ours, stock = (
            real(ENCODER_DECODERS[name].build(way)(**given), given)
            for way in ("masked_attn", "eager")
        )
    for mine, theirs in zip(ours, stock, strict=True):
        assert (mine - theirs).norm() <= 0.05 * theirs.norm()


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_decoder_goes_on_with_its_cache_token_by_token_and_in_chunks(name):
    given = inputs()
    whole, (_, mask) = prompts([7, 7, 7], seed=4)[0], prompts(LENGTHS, side="right")
    results = []
    for way, pieces in (("masked_attn", [3, 1, 3]), ("eager", [7])):
        model, cache, found = ENCODER_DECODERS[name].build(way), None, []
        with torch.no_grad():
            states = model.get_encoder()(given["input_ids"], attention_mask=mask)
            for piece in whole.split(pieces, dim=1):
                out = model(
                    encoder_outputs=states,
                    attention_mask=mask,
                    decoder_input_ids=piece,
                    past_key_values=cache,
                    use_cache=True,
                )
                cache = out.past_key_values
                found.append(out.logits)
        results.append(torch.cat(found, dim=1))
    torch.testing.assert_close(*results, **CLOSE)


@some
def test_a_compiled_forward_is_one_graph_and_equals_stock(name):
    given = inputs()
    torch.compiler.reset()
    model = ENCODER_DECODERS[name].build("masked_attn")
    if not ENCODER_DECODERS[name].on_interface():
        pytest.skip("stock code of this transformers")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        ours = compiled(**given, use_cache=False)
        expected = ENCODER_DECODERS[name].build("eager")(**given)
    torch.testing.assert_close(real(ours, given), real(expected, given), **CLOSE)


@each
def test_patch_names_the_other_way(name):
    model = ENCODER_DECODERS[name].build("eager")
    with pytest.raises(TypeError, match='attn_implementation="masked_attn"'):
        patch(model)


def test_the_bias_counts():
    """Else a bias that got lost would pass every test of this file."""
    given = inputs()
    model = BIASED["t5"].build("eager")
    with torch.no_grad():
        before = model(**given).logits
        for name, weight in model.named_parameters():
            if "relative_attention_bias" in name:
                weight.zero_()
        assert (model(**given).logits - before).abs().max() > 0.1
    assert PLAIN
