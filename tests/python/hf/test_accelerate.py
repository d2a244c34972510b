"""accelerate's hooks replace ``forward`` of modules; they stay, before and after a patch."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate", reason="accelerate is not installed")

import accelerate
from accelerate.hooks import (
    AlignDevicesHook,
    ModelHook,
    SequentialHook,
    add_hook_to_module,
    remove_hook_from_module,
)
from hf.checks import assert_close, assert_ran, identities
from hf.models import generate, gpt2, positions_of, prompts
from transformers import GPT2Model

from masked_attn.hf import KVCache, patch, patched, paths, unpatch

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
REAL = MASK.bool()
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
WHEN = pytest.mark.parametrize("when", ["hooked-first", "patched-first"])


class Louder(ModelHook):
    """Changes the input and the output of its module, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def pre_forward(self, module, *args, **kwargs):
        self.calls += 1
        return (
            (args[0] * 1.5, *args[1:]) if args and args[0].is_floating_point() else args
        ), kwargs

    def post_forward(self, module, output):
        return (output[0] * 1.5, *output[1:]) if isinstance(output, tuple) else output


class Hiding(ModelHook):
    """Hides the first keys by writing into the mask."""

    def pre_forward(self, module, *args, **kwargs):
        kwargs["attention_mask"][:, :, :, :5] = False
        return args, kwargs


PLACES = {
    "attn": lambda m: m.transformer.h[0].attn,
    "block": lambda m: m.transformer.h[0],
    "linear": lambda m: m.transformer.h[0].attn.c_attn,
    "transformer": lambda m: m.transformer,
    "head": lambda m: m.lm_head,
}


def run(model, inputs=INPUTS):
    with torch.no_grad():
        out = model(**inputs, use_cache=False)
    return (out.logits if "logits" in out else out.last_hidden_state)[REAL]


@WHEN
@pytest.mark.parametrize("place", PLACES)
def test_a_hook_stays_and_has_effect(place, when):
    stock = gpt2()
    plain, before = run(stock), PLACES[place]
    add_hook_to_module(before(stock), Louder())
    expected = run(stock)
    assert place == "transformer" or (expected - plain).abs().max() > 0.1

    model = gpt2() if when == "hooked-first" else patch(gpt2())
    hook = Louder()
    add_hook_to_module(before(model), hook)
    patch(model)
    assert_close(run(model), expected)
    # Within a block a hook that is not accelerate's own might look at the mask.
    inside = place in ("attn", "block")
    assert_ran(model, "stock" if inside else "masked_attention")
    assert hook.calls == 1
    patch(model, fused=False)
    run(model)
    assert_ran(model, "stock" if inside else "textbook")

    unpatch(model)
    assert paths(model) == {}
    assert torch.equal(run(model), expected)
    assert hook.calls == 3
    remove_hook_from_module(before(model))
    assert torch.equal(run(model), plain)


@WHEN
@pytest.mark.parametrize("place", PLACES)
def test_a_hook_can_be_removed_while_patched(place, when):
    plain, module = run(gpt2()), PLACES[place]
    model = gpt2() if when == "hooked-first" else patch(gpt2())
    add_hook_to_module(module(model), Louder())
    patch(model)
    remove_hook_from_module(module(model))
    assert_close(run(model), plain)
    assert_ran(model, "masked_attention")
    unpatch(model)
    assert torch.equal(run(model), plain)
    run(patch(model))
    assert_ran(model, "masked_attention")


def test_hooks_on_every_module_are_the_identical_ones_after_unpatch():
    model = gpt2()
    for module in list(model.modules()):
        add_hook_to_module(module, AlignDevicesHook("cpu"))
    before = identities(model)
    with patched(model):
        run(model)
        assert_ran(model, "masked_attention")
    assert identities(model) == before


@WHEN
@pytest.mark.parametrize("chain", [False, True], ids=["alone", "chained"])
def test_a_hook_that_changes_the_mask_has_effect(chain, when):
    def add_hook(model):
        hook = SequentialHook(AlignDevicesHook("cpu"), Hiding()) if chain else Hiding()
        add_hook_to_module(model.transformer.h[0].attn, hook)

    stock = gpt2()
    plain = run(stock)
    add_hook(stock)
    expected = run(stock)
    assert (expected - plain).abs().max() > 0.1
    model = gpt2() if when == "hooked-first" else patch(gpt2())
    add_hook(model)
    assert_close(run(patch(model)), expected)
    assert_ran(model, "stock")


def dispatched(model):
    devices = dict.fromkeys(["transformer.wte", "transformer.wpe", "transformer.ln_f"], "cpu")
    devices |= {"transformer.drop": "cpu", "lm_head": "cpu"}
    devices |= {f"transformer.h.{number}": "cpu" for number in range(2)}
    return accelerate.dispatch_model(model, devices, main_device="cpu", force_hooks=True)


def dispatched_whole(model):
    return accelerate.dispatch_model(model, {"": "cpu"}, main_device="cpu", force_hooks=True)


def offloaded(model):
    return accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


@WHEN
@pytest.mark.parametrize("place", [dispatched, dispatched_whole, offloaded])
def test_a_placed_model(place, when):
    stock = place(gpt2())
    expected, tokens = run(stock), generate(stock, IDS, MASK, 6).sequences
    model = patch(place(gpt2())) if when == "hooked-first" else place(patch(gpt2()))
    assert any("_hf_hook" in m.__dict__ for m in model.transformer.h[0].modules())
    assert_close(run(model), expected)
    assert_ran(model, "masked_attention")
    result = generate(model, IDS, MASK, 6)
    assert_ran(model, "cached_attention")
    assert isinstance(result.past_key_values, KVCache)
    assert torch.equal(result.sequences, tokens)
    unpatch(model)
    assert torch.equal(run(model), expected)
    remove_hook_from_module(model, recurse=True)
    assert not any("_hf_hook" in m.__dict__ for m in model.modules())


def test_a_copy_of_a_hooked_and_patched_model():
    model = gpt2()
    for name in ("attn", "transformer"):
        add_hook_to_module(PLACES[name](model), AlignDevicesHook("cpu"))
    expected = run(patch(model))
    twin = copy.deepcopy(model)
    unpatch(model)
    assert torch.equal(run(twin), expected)
    assert_ran(twin, "masked_attention")
    with torch.no_grad():
        twin.transformer.h[0].attn.c_attn.weight.zero_()
    assert not torch.equal(run(twin), expected)
    unpatch(twin)
    assert_close(run(model), expected)


def test_mixed_precision_around_a_bare_transformer():
    """``prepare`` wraps ``forward`` of the model itself: fine before a patch, refused after."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    stock, first, last = (gpt2(model_class=GPT2Model) for _ in range(3))
    expected = run(accelerator.prepare_model(stock, evaluation_mode=True))
    patch(accelerator.prepare_model(first, evaluation_mode=True))
    torch.testing.assert_close(run(first), expected, atol=0.1, rtol=1e-4)
    assert_ran(first, "masked_attention")
    unpatch(first)
    assert torch.equal(run(first), expected)

    accelerator.prepare_model(patch(last), evaluation_mode=True)
    for function in (patch, unpatch, paths):
        with pytest.raises(RuntimeError, match="wrapped or lost after patch"):
            function(last)
    last.forward = last._original_forward
    run(unpatch(last))
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
