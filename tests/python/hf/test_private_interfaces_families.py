"""What we lean on in the modeling files of each family. Stock models, and never our code.

What is looked for comes from the rows of ``masked_attn.hf.families``.
"""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
import torch

pytest.importorskip("transformers")

from hf.families.models import FAMILIES as SMALL
from hf.models import CACHE, VOCAB, gpt2
from support.private_interfaces import guard
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers import masking_utils as masking
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.output_capturing import _active_collector

from masked_attn.hf.families.family import module_at
from masked_attn.hf.families.registry import FAMILIES

pytestmark = pytest.mark.integration

EACH = pytest.mark.parametrize("family", FAMILIES, ids=[family.folder for family in FAMILIES])
DECODERS = pytest.mark.parametrize(
    "family", *[[f for f in FAMILIES if f.causal]], ids=[f.folder for f in FAMILIES if f.causal]
)
GENERATOR = torch.Generator().manual_seed(3)
IDS = torch.randint(5, VOCAB, (2, 6), generator=GENERATOR)
STATES = torch.randn(2, 6, 32, generator=GENERATOR)
NOTHING = torch.empty(0, 0, 0, 0)


def backbone(family):
    if family.folder == "gpt2":
        return gpt2(implementation="eager").transformer
    model = SMALL[family.folder].build()
    return next(part for part in model.modules() if type(part).__name__ == family.backbone)


def positions(first, rows=1):
    return first + torch.arange(6).expand(rows, 6)


def attentions(family, model):
    return [module_at(layer, family.attention) for layer in family.layers_of(model)]


class View:
    """A config that names another attention."""

    def __init__(self, original):
        self.original = original
        self._attn_implementation = "noting"

    def __getattr__(self, name):
        return getattr(self.original, name)


def noted(family, model, attend=sdpa_attention_forward, **arguments):
    """What the attention function was called with, in each layer, and what the model returned."""
    calls = []

    def note(module, query, key, value, attention_mask, **kwargs):
        out = attend(module, query, key, value, attention_mask, **kwargs)
        calls.append((module, attention_mask, kwargs, out))
        return out

    AttentionInterface.register("noting", note)
    for attention in attentions(family, model):
        attention.__dict__["config"] = View(attention.config)
    with torch.no_grad():
        return calls, model(**arguments)


@guard
@EACH
def test_where_each_family_keeps_its_parts(family):
    model = backbone(family)
    assert type(model).__name__ == family.backbone and type(model).__module__ == family.module_name
    layers = model.get_submodule(family.layers)
    assert isinstance(layers, torch.nn.ModuleList) and len(layers) > 1
    assert {type(layer).__name__ for layer in layers} == {family.layer}
    for number, layer in enumerate(layers):
        attention = layer.get_submodule(family.attention)
        assert type(attention).__name__ == family.attention_class
        assert attention.__dict__["config"]._attn_implementation == "eager"
        assert hasattr(attention, family.dropout)
        assert not family.causal or attention.layer_idx == number
    assert callable(import_module(family.module_name).eager_attention_forward)
    named = inspect.signature(type(model).forward).parameters
    assert {"input_ids", "attention_mask", "position_ids", "inputs_embeds"} <= named.keys()
    assert not family.causal or CACHE in named
    assert model.is_gradient_checkpointing is False


@guard
@EACH
def test_layers_ask_the_config_of_their_attention(family):
    model, ours = backbone(family), object()
    calls, _ = noted(
        family,
        model,
        lambda module, query, key, value, mask, **_: (value_of_each(query, value), None),
        input_ids=IDS,
        position_ids=positions(2),
        attention_mask=NOTHING,
        masked_attn_plan=ours,
    )
    assert model.config._attn_implementation == "eager"
    assert [module for module, *_ in calls] == attentions(family, model)
    for _, mask, kwargs, _ in calls:
        assert mask is NOTHING
        assert kwargs.get("masked_attn_plan") is (ours if family.keywords else None)
        assert {"dropout", "scaling"} <= kwargs.keys()


def value_of_each(query, value):
    """Attention in which each token sees itself."""
    groups = query.shape[1] // value.shape[1]
    return value.repeat_interleave(groups, dim=1).transpose(1, 2).contiguous()


@guard
@EACH
def test_all_but_attention_works_on_each_token(family):
    def alone(module, query, key, value, mask, **_):
        return value_of_each(query, value), None

    first = SMALL[family.folder].first_position() if family.folder in SMALL else 0
    whole = {} if family.counts_mask else {"attention_mask": NOTHING}
    _, batch = noted(family, backbone(family), alone, **whole, input_ids=IDS)
    flat = {"input_ids": IDS.view(1, 12), "position_ids": positions(first, 2).reshape(1, 12)}
    _, packed = noted(family, backbone(family), alone, **flat, attention_mask=NOTHING)
    expected = batch.last_hidden_state.reshape(12, -1)
    torch.testing.assert_close(packed.last_hidden_state[0], expected)


WINDOWS = {name: name.removesuffix("_windows") for name, small in SMALL.items() if small.windows}


@guard
@pytest.mark.parametrize("name", [name for name in WINDOWS if name != "gemma3_256"])
def test_layers_say_their_window(name):
    small = SMALL[name]
    family = next(row for row in FAMILIES if row.folder == WINDOWS[name])
    calls, _ = noted(
        family,
        small.build(),
        lambda module, query, key, value, mask, **_: (value_of_each(query, value), None),
        input_ids=IDS,
    )
    windows = [kwargs["sliding_window"] for _, _, kwargs, _ in calls]
    kinds = getattr(small.config(), "layer_types", None) or ["sliding_attention"] * len(calls)
    assert len(windows) == len(kinds) > 1
    for window, kind in zip(windows, kinds, strict=True):
        assert (window is not None) == (kind == "sliding_attention")
    # One more than the farthest key on one side, the query itself counted.
    assert {window for window in windows if window} == {5 if name == "modernbert" else 4}


class Spy:
    """A cache of which only ``update`` may be asked."""

    def __init__(self, real):
        self.real = real
        self.asked = set()

    def __getattr__(self, name):
        self.asked.add(name)
        return getattr(self.real, name)


@guard
@DECODERS
def test_layers_only_update_their_cache(family):
    model, spies = backbone(family), []

    def swap(value):
        if not isinstance(value, Cache):
            return value
        spies.append(Spy(value))
        return spies[-1]

    def hand_a_spy(layer, args, kwargs):
        return tuple(map(swap, args)), {name: swap(value) for name, value in kwargs.items()}

    layers = family.layers_of(model)
    for layer in layers:
        layer.register_forward_pre_hook(hand_a_spy, with_kwargs=True)
    with torch.no_grad():
        out = model(IDS, **{CACHE: DynamicCache(), "use_cache": True})
    assert len(spies) == len(layers)
    assert set.union(*(spy.asked for spy in spies)) == {"update"}
    assert out[CACHE].get_seq_length() == 6


@guard
@EACH
def test_weights_are_what_attention_returns(family):
    collected = []

    def attend(module, query, key, value, mask, **kwargs):
        said = kwargs.get("output_attentions")
        active = _active_collector.get() or {}
        collected.append(said or any(name.endswith("attentions") for name in active))
        return value_of_each(query, value), torch.full((2, query.shape[1], 6, 6), 0.25)

    calls, out = noted(family, backbone(family), attend, input_ids=IDS, output_attentions=True)
    assert collected and all(collected)
    for (*_, (_, weights)), given in zip(calls, out.attentions, strict=True):
        assert given is weights


@guard
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_of_four_dimensions_are_handed_on(dtype):
    mask = torch.empty(0, 0, 0, 0, dtype=dtype)
    for name in ("mistral", "modernbert"):
        config = SMALL[name].config()
        inputs = {"config": config, "inputs_embeds": STATES, "attention_mask": mask}
        causal = {**inputs, "past_key_values": None, "position_ids": None}
        assert masking.create_causal_mask(**causal) is mask
        assert masking.create_sliding_window_causal_mask(**causal) is mask
        assert masking.create_bidirectional_mask(**inputs, encoder_hidden_states=STATES) is mask
        assert masking.create_bidirectional_sliding_window_mask(**inputs) is mask


@guard
def test_windows_are_kept_in_closures():
    asked = []
    AttentionInterface.register("noting", sdpa_attention_forward)
    AttentionMaskInterface.register(
        "noting", lambda mask_function, **_: asked.append(mask_function)
    )
    for name in ("mistral", "modernbert"):
        config = SMALL[name].config(implementation="noting")
        inputs = {"config": config, "inputs_embeds": STATES, "attention_mask": None}
        if name == "mistral":
            causal = {"past_key_values": None, "position_ids": torch.arange(6)[None]}
            masking.create_sliding_window_causal_mask(**inputs, **causal)
        else:
            masking.create_bidirectional_sliding_window_mask(**inputs)
    for function, base in zip(
        asked,
        (masking.causal_mask_function, masking.bidirectional_mask_function),
        strict=True,
    ):
        overlay, plain = inspect.getclosurevars(function).nonlocals["mask_functions"]
        assert plain is base
        assert inspect.getclosurevars(overlay).nonlocals["sliding_window"] == 4


@guard
@pytest.mark.parametrize("family", *[[f for f in FAMILIES if f.router]], ids=lambda f: f.folder)
def test_routers_have_a_row_for_each_token(family):
    model = backbone(family)
    with torch.no_grad():
        logits = model(IDS, output_router_logits=True)[family.router]
        first = model(IDS[:1], output_router_logits=True)[family.router]
    assert logits
    for both, one in zip(logits, first, strict=True):
        assert both.shape == (12, 4)
        torch.testing.assert_close(both[:6], one)


@guard
@pytest.mark.parametrize("name", ["opt"])
def test_positions_that_are_counted_from_the_mask(name):
    model = SMALL[name].build()
    mask = torch.tensor([[0, 0, 1, 1, 0, 1], [1, 1, 1, 1, 0, 0]])
    counted = torch.tensor([[-1, -1, 0, 1, -1, 2], [0, 1, 2, 3, -1, -1]])
    with torch.no_grad():
        found = model(IDS, attention_mask=mask).last_hidden_state
        given = model(IDS, attention_mask=mask, position_ids=counted).last_hidden_state
    assert torch.equal(found, given)


JUMPS = torch.tensor([[0, 1, 2, 0, 1, 2]])


@guard
@DECODERS
def test_which_families_part_a_row_where_positions_jump(family):
    """Whether a token behind the jump sees the first one."""
    model, ids = backbone(family), IDS[:1].clone()
    last = []
    for first in (7, 8):
        ids[0, 0] = first
        with torch.no_grad():
            out = model(ids, position_ids=JUMPS, use_cache=False)
        last.append(out.last_hidden_state[0, -1])
    assert torch.allclose(*last, atol=1e-5) == family.parts_jumps


@guard
def test_layers_say_softcap_and_sinks():
    for name, word in (("gemma2", "softcap"), ("gpt_oss", "s_aux")):
        family = next(row for row in FAMILIES if row.folder == name)
        model = backbone(family)
        said = []

        def note(module, query, key, value, mask, said=said, word=word, **kwargs):
            said.append(kwargs[word])
            return value_of_each(query, value), None

        noted(family, model, note, input_ids=IDS)
        assert said == [1.5] * 3 or all(
            mine is layer.sinks and mine.shape == (4,)
            for mine, layer in zip(said, attentions(family, model), strict=True)
        )


@guard
@pytest.mark.parametrize("name", ["bert", "roberta", "xlm_roberta"])
def test_poolers_read_the_first_slot(name):
    model = SMALL[name].build()
    changed = STATES.clone()
    changed[:, 1:] = torch.nan
    with torch.no_grad():
        assert torch.equal(model.pooler(changed), model.pooler(STATES))


@guard
@pytest.mark.parametrize("name", ["roberta", "xlm_roberta"])
def test_roberta_counts_the_ids_that_are_no_pads(name):
    model = SMALL[name].build()
    pad = model.embeddings.padding_idx
    assert pad == model.config.pad_token_id  # until somebody changes the config
    ids = IDS.clone()
    ids[0, :2] = ids[1, 4:] = pad
    real = (ids != pad).long()
    with torch.no_grad():
        counted = model(ids, position_ids=real.cumsum(-1) * real + pad).last_hidden_state
        assert torch.equal(model(ids).last_hidden_state, counted)
        in_order = torch.arange(6).expand(2, 6) + pad + 1
        counted = model(inputs_embeds=STATES, position_ids=in_order).last_hidden_state
        assert torch.equal(model(inputs_embeds=STATES).last_hidden_state, counted)


@guard
def test_attention_functions_are_found_by_name():
    fallback = object()
    find = ALL_ATTENTION_FUNCTIONS.get_interface
    assert find("sdpa", fallback) is sdpa_attention_forward
    assert find("eager", fallback) is fallback


@guard
def test_the_second_eager_attention_of_gpt2():
    attention = gpt2(implementation="eager", reorder_and_upcast_attn=True).transformer.h[0].attn
    assert attention.reorder_and_upcast_attn is True
    heads = STATES.view(2, 6, 2, 16).transpose(1, 2)
    out, weights = attention._upcast_and_reordered_attn(heads, heads, heads, None)
    assert out.shape == (2, 6, 2, 16) and weights.shape == (2, 2, 6, 6)
