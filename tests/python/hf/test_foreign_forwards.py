"""What others changed without a hook on an instance: it has its effect, or patch refuses."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close, assert_ran
from hf.models import gpt2, positions_of, prompts
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import AttentionInterface, AttentionMaskInterface, GPT2Model, StaticCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block

from masked_attn import report
from masked_attn.hf import patch, unpatch

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:masked_attn. stock attention runs"),
]

IDS, MASK = prompts([5, 9, 3])
INPUTS = {"attention_mask": MASK, "position_ids": positions_of(MASK)}


def run(model, **more):
    with torch.no_grad():
        return model(IDS, **{**INPUTS, **more}).logits[MASK.bool()]


def hide_first_keys(mask):
    mask = mask.clone()
    mask[..., :6] = torch.finfo(mask.dtype).min if mask.is_floating_point() else False
    return mask


class ShortSighted(GPT2Block):
    def forward(self, hidden_states, past_key_values=None, attention_mask=None, *args, **kwargs):
        mask = hide_first_keys(attention_mask)
        return super().forward(hidden_states, past_key_values, mask, *args, **kwargs)


def with_short_sighted_blocks(model):
    for number, block in enumerate(model.transformer.h):
        other = ShortSighted(model.config, layer_idx=number).eval()
        other.load_state_dict(block.state_dict())
        model.transformer.h[number] = other
    return model


def test_a_subclass_of_the_block_has_its_effect():
    expected = run(with_short_sighted_blocks(gpt2()))
    assert (expected - run(gpt2())).abs().max() > 0.1
    model = patch(with_short_sighted_blocks(gpt2()))
    assert_close(run(model), expected)
    assert_ran(model, "stock")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forward_that_was_replaced_for_all_blocks_has_its_effect(when, monkeypatch):
    original = GPT2Block.forward

    def forward(self, hidden_states, past_key_values=None, attention_mask=None, *args, **kwargs):
        mask = hide_first_keys(attention_mask)
        return original(self, hidden_states, past_key_values, mask, *args, **kwargs)

    model = patch(gpt2()) if when == "after" else None
    monkeypatch.setattr(GPT2Block, "forward", forward)
    expected = run(gpt2())
    model = model or patch(gpt2())
    assert_close(run(model), expected)
    assert "GPT2Block.forward" in report(model)["layers"][0]["why"]


def test_a_global_hook_that_writes_into_the_mask_has_its_effect():
    def write(module, args):
        if isinstance(module, GPT2Block) and args[2] is not None:
            args[2][..., :6] = False

    model = patch(gpt2())
    hook = register_module_forward_pre_hook(write)
    try:
        expected, ours = run(gpt2()), run(model)
    finally:
        hook.remove()
    assert (expected - run(gpt2())).abs().max() > 0.1
    assert_close(ours, expected)


class Shifted(GPT2Model):
    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return super().forward(input_ids, attention_mask=hide_first_keys(attention_mask), **kwargs)


def test_a_subclass_of_the_model_with_its_own_forward_is_refused():
    model = gpt2()
    model.transformer = Shifted(model.config)
    with pytest.raises(TypeError, match="cannot patch Shifted: it has a forward of its own"):
        patch(model)
    assert type(model.transformer.h[0].attn) is GPT2Attention


@pytest.mark.parametrize("name", ["twice", "sdpa"])
def test_a_registered_attention_has_its_effect(name):
    def twice(*args, **kwargs):
        out, weights = sdpa_attention_forward(*args, **kwargs)
        return 2 * out, weights

    AttentionInterface.register(name, twice)
    AttentionMaskInterface.register(name, sdpa_mask)
    try:
        expected, model = run(gpt2(implementation=name)), patch(gpt2(implementation=name))
        assert_close(run(model), expected)
        assert name in report(model)["layers"][0]["why"]
    finally:
        AttentionInterface.register("sdpa", sdpa_attention_forward)
        AttentionInterface._global_mapping.pop("twice", None)
        AttentionMaskInterface._global_mapping.pop("twice", None)
    assert (expected - run(gpt2())).abs().max() > 0.1
    model = patch(gpt2())
    run(model, use_cache=False)
    assert_ran(model, "masked_attention")  # sdpa is itself again


@pytest.mark.parametrize("name", ["scaling", "dropout", "module"])
def test_keywords_of_the_layers_are_an_error_as_in_stock(name):
    for model in (gpt2(), patch(gpt2())):
        with pytest.raises(TypeError, match="multiple values"):
            run(model, **{name: 0.5})


def test_a_model_is_freed_as_soon_as_nobody_holds_it():
    gc.collect()
    gc.disable()
    try:
        for build in (gpt2, lambda: patch(gpt2())):
            model = build()
            run(model)
            gone = weakref.ref(model.transformer.h[0].mlp.c_fc.weight)
            del model
            assert gone() is None
    finally:
        gc.enable()


def test_blocks_may_be_removed_and_come_back():
    model = patch(gpt2(layers=4))
    first, last = model.transformer.h[0], model.transformer.h[3]
    model.transformer.h = torch.nn.ModuleList([first, last])
    run(model, use_cache=False)
    assert [layer["path"] for layer in report(model)["layers"]] == ["packed_attention"] * 2
    unpatch(model)
    assert type(first.attn) is type(last.attn) is GPT2Attention


@pytest.mark.parametrize("cross", [False, True], ids=["static", "cross"])
def test_one_graph_without_a_mask(cross):
    """Nothing in the patch may cut a compiled graph that stock code has in one piece."""
    more = {}
    if cross:
        more = {"encoder_hidden_states": torch.randn(3, 4, 32), "use_cache": False}
    results = []
    for model in (gpt2(add_cross_attention=cross), patch(gpt2(add_cross_attention=cross))):
        torch._dynamo.reset()
        cache = None if cross else StaticCache(config=model.config, max_cache_len=12)
        forward = torch.compile(model, backend="eager", fullgraph=True)
        with torch.no_grad():
            if cache is not None:
                model(IDS, past_key_values=cache)
                results.append(forward(IDS[:, :1], past_key_values=cache).logits)
            else:
                results.append(forward(IDS, **more).logits)
    assert_close(results[1], results[0])
