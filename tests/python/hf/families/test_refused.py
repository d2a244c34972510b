"""What is not known is refused by name, or left to stock code with right results: never wrong."""

from __future__ import annotations

import pytest
import torch
import transformers

pytest.importorskip("transformers")

from hf.checks import assert_close
from hf.families.batches import batch
from hf.families.models import ENCODERS, FAMILIES, Family, each, quietly, some
from hf.models import generate
from torch import nn
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.llama.modeling_llama import LlamaModel

from masked_attn.hf import patch, paths

pytestmark = pytest.mark.integration

OTHER_WAY = 'attn_implementation="masked_attn"'
UNKNOWN = {
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    ),
    "bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2)
    ),
    "no transformer": lambda: nn.Sequential(nn.Linear(2, 2)),
}


@pytest.mark.parametrize("name", list(UNKNOWN))
def test_models_of_an_unknown_class_name_the_other_way(name):
    model = UNKNOWN[name]()
    before = [dict(module.__dict__) for module in model.modules()]
    with pytest.raises(TypeError, match=OTHER_WAY):
        patch(model)
    assert [dict(module.__dict__) for module in model.modules()] == before


def assert_right_or_refused(build, run, mentions):
    """Refused with a message that names the reason, or the outputs of stock code."""
    expected = run(build())
    model = build()
    try:
        patch(model)
        ours = run(model)
    except (TypeError, ValueError, NotImplementedError) as error:
        message = str(error).lower()
        assert any(word in message for word in mentions), message
        return
    for mine, theirs in zip(ours, expected, strict=True):
        assert_close(mine, theirs)


@some("bert", "roberta", "xlm_roberta", "electra")
@pytest.mark.parametrize("side", ["left", "right"])
def test_encoders_that_are_decoders(family, side):
    rows = batch(family, side)
    assert_right_or_refused(
        lambda: family.build(is_decoder=True, implementation="sdpa"),
        lambda model: [quietly(model, **rows.asked()).last_hidden_state[rows.real]],
        ["is_decoder", "decoder"],
    )


@some("bert", "roberta")
def test_encoders_that_are_decoders_generate(family):
    head = "LMHeadModel" if family.name == "bert" else "ForCausalLM"
    rows = batch(family, "left")

    def tokens(model):
        return [generate(model, rows.ids, rows.mask, 6).sequences.float()]

    assert_right_or_refused(
        lambda: family.build(
            head, is_decoder=True, bos_token_id=None, eos_token_id=None, implementation="sdpa"
        ),
        tokens,
        ["is_decoder", "decoder"],
    )


@some("bert", "roberta", "xlm_roberta", "electra")
def test_cross_attention(family):
    rows = batch(family, "right")
    encoded = torch.randn(4, 7, 32)
    seen = torch.ones(4, 7, dtype=torch.long)
    seen[1, 3:] = 0
    settings = {"is_decoder": True, "add_cross_attention": True, "implementation": "sdpa"}

    def run(model):
        given = {"encoder_hidden_states": encoded, "encoder_attention_mask": seen}
        return [quietly(model, **rows.asked(), **given).last_hidden_state[rows.real]]

    assert_right_or_refused(lambda: family.build(**settings), run, ["cross", "decoder"])


def test_an_encoder_whose_config_says_decoder_later():
    """The flag is read when the layers are built, and again in every forward."""
    family = FAMILIES["bert"]
    rows = batch(family, "right")
    stock, model = family.build(), patch(family.build())
    for one in (stock, model):
        one.config.is_decoder = True
    expected = quietly(stock, **rows.asked()).last_hidden_state
    ours = quietly(model, **rows.asked()).last_hidden_state
    assert_close(ours[rows.real], expected[rows.real])


@some("roberta", "xlm_roberta")
@pytest.mark.parametrize("given", ["ids", "embeds"])
def test_positions_follow_the_pad_that_the_model_was_made_with(family, given):
    rows = batch(family, "right", lengths=(5, 12, 3, 9))
    stock, model = family.build(), patch(family.build())
    asked = rows.inputs()
    if given == "embeds":
        asked["inputs_embeds"] = stock.embeddings.word_embeddings(asked.pop("input_ids")).detach()
    for one in (stock, model):
        one.config.pad_token_id = 3
    expected = quietly(stock, **asked).last_hidden_state
    assert_close(quietly(model, **asked).last_hidden_state[rows.real], expected[rows.real])


@some("gemma3")
def test_gemma_that_looks_both_ways(family):
    rows = batch(family, "right")
    assert_right_or_refused(
        lambda: family.build(use_bidirectional_attention=True),
        lambda model: [quietly(model, **rows.asked()).last_hidden_state[rows.real]],
        ["bidirectional"],
    )


@some("gemma3")
def test_soft_caps_of_attention(family):
    rows = batch(family, "right")
    assert_right_or_refused(
        lambda: family.build(attn_logit_softcapping=1.0),
        lambda model: [quietly(model, **rows.asked()).last_hidden_state[rows.real]],
        ["softcap"],
    )


@some("gemma3")
def test_soft_caps_of_logits_are_applied(family):
    rows = batch(family, "left")
    build = [
        family.build("ForCausalLM", final_logit_softcapping=5.0, implementation=how)
        for how in ("eager", "sdpa")
    ]
    expected = quietly(build[0], **rows.asked()).logits
    ours = quietly(patch(build[1]), **rows.inputs()).logits
    assert expected.abs().max() <= 5
    assert_close(ours[rows.real], expected[rows.real])


class LlamaThatDoubles(LlamaModel):
    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.last_hidden_state = out.last_hidden_state * 2
        return out


class BertThatReverses(BertModel):
    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return super().forward(input_ids.flip(1), attention_mask.flip(1), **kwargs)


@pytest.mark.parametrize(
    ("name", "wanted"), [("llama", LlamaThatDoubles), ("bert", BertThatReverses)]
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_subclasses_with_a_forward_of_their_own(name, wanted, side):
    family: Family = FAMILIES[name]
    weights = family.build().state_dict()
    rows = batch(family, side)
    real = rows.real.flip(1) if wanted is BertThatReverses else rows.real

    def build():
        model = wanted(family.config()).eval()
        model.load_state_dict(weights)
        return model

    def run(model):
        return [quietly(model, **rows.asked()).last_hidden_state[real]]

    assert_right_or_refused(build, run, [wanted.__name__.lower(), "forward"])


def test_attention_replaced_by_others():
    """A layer of another class inside a known model."""
    family = FAMILIES["llama"]

    class Quiet(nn.Module):
        def forward(self, hidden_states, **kwargs):
            return torch.zeros_like(hidden_states), None

    def build():
        model = family.build()
        model.layers[0].self_attn = Quiet()
        return model

    rows = batch(family, "left")
    assert_right_or_refused(
        build,
        lambda model: [quietly(model, **rows.asked()).last_hidden_state[rows.real]],
        ["quiet", "attention"],
    )


def test_two_models_inside_are_refused():
    """Nobody can say which one is meant."""
    both = nn.ModuleDict({"one": FAMILIES["llama"].build(), "other": FAMILIES["bert"].build()})
    with pytest.raises((ValueError, TypeError), match="holds 2 models: one, other; call patch"):
        patch(both)
    assert paths(both["one"]) == {} and paths(both["other"]) == {}


@each(ENCODERS)
def test_masks_of_four_dimensions_are_right_or_refused(family):
    rows = batch(family, "right")
    mask = rows.real[:, None, None].expand(-1, 1, rows.ids.shape[1], -1)
    if family.windows:
        mask = {"full_attention": mask, "sliding_attention": mask}
    assert_right_or_refused(
        lambda: family.build(implementation="sdpa"),
        lambda model: [
            quietly(
                model, rows.ids, attention_mask=mask, position_ids=rows.positions
            ).last_hidden_state[rows.real]
        ],
        ["mask"],
    )


def test_a_window_given_by_the_caller():
    """Stock sdpa sees by the mask, and does not read it."""
    family = FAMILIES["llama"]
    rows = batch(family, "left")
    assert_right_or_refused(
        lambda: family.build(implementation="sdpa"),
        lambda model: [
            quietly(model, **rows.asked(), sliding_window=3).last_hidden_state[rows.real]
        ],
        ["sliding_window"],
    )
