"""The GPT-2 is found inside wrappers, and what the wrapper calls is what was patched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from hf.checks import assert_close, assert_ran, identities
from hf.heads import HEADS, named_heads
from hf.models import generate, gpt2, positions_of, prompts
from transformers import GPT2LMHeadModel, GPT2Model

from masked_attn.hf import KVCache, patch, patched, paths, unpatch

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
REAL = MASK.bool()
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}


class Own(nn.Module):
    """A user's module around a model, with parts of its own."""

    def __init__(self, model):
        super().__init__()
        self.before = nn.Linear(2, 2)
        self.parts = nn.ModuleDict({"language": model})

    def forward(self, **inputs):
        return self.parts["language"](**inputs)


def peft(model):
    library = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(5)
    settings = library.LoraConfig(
        r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False
    )
    return library.get_peft_model(model, settings).eval()


def ddp(model):
    return nn.parallel.DistributedDataParallel(model)


def data_parallel(model):
    return nn.DataParallel(model)


def compiled(model):
    return torch.compile(model, backend="eager")


def accelerated(model, **more):
    library = pytest.importorskip("accelerate", reason="accelerate is not installed")
    library.state.AcceleratorState._reset_state(reset_partial_state=True)
    return library.Accelerator(cpu=True, **more).prepare_model(model, evaluation_mode=True)


def accelerated_amp(model):
    return accelerated(model, mixed_precision="bf16")


def ddp_in_own(model):
    return Own(ddp(model))


WRAPPERS = [peft, ddp, data_parallel, compiled, accelerated, accelerated_amp, Own, ddp_in_own]


@pytest.fixture(autouse=True)
def process_group():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()
    torch.compiler.reset()


def run(wrapper):
    with torch.no_grad():
        return wrapper(**INPUTS, use_cache=False).logits[REAL]


def generating(wrapper):
    """The object on which users of this wrapper call ``generate``."""
    if hasattr(wrapper, "generate"):
        return wrapper
    return next(m for m in wrapper.modules() if isinstance(m, GPT2LMHeadModel))


@pytest.mark.parametrize("when", ["wrapped-first", "patched-first"])
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_the_model_inside_a_wrapper(wrap, when):
    stock = wrap(gpt2())
    expected, tokens = run(stock), generate(generating(stock), IDS, MASK, 6).sequences

    wrapper = wrap(gpt2()) if when == "wrapped-first" else wrap(patch(gpt2()))
    assert patch(wrapper) is wrapper
    ours = run(wrapper)
    assert_ran(wrapper, "masked_attention")
    exact = wrap is not accelerated_amp  # bfloat16 may tie
    torch.testing.assert_close(ours, expected, atol=2e-4 if exact else 0.1, rtol=1e-4)

    result = generate(generating(wrapper), IDS, MASK, 6)
    assert_ran(wrapper, "cached_attention")
    assert isinstance(result.past_key_values, KVCache)
    assert not exact or torch.equal(result.sequences, tokens)

    assert unpatch(wrapper) is wrapper
    assert paths(wrapper) == {}
    assert torch.equal(run(wrapper), expected)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_unpatch_through_a_wrapper_brings_back_the_identical_objects(wrap):
    wrapper = wrap(gpt2())
    run(wrapper)
    before = identities(wrapper)
    with patched(wrapper) as inside:
        assert inside is wrapper
        run(wrapper)
        assert_ran(wrapper, "masked_attention")
    assert identities(wrapper) == before


def test_a_compiled_model_notices_a_patch_that_came_after_its_first_run():
    wrapper = compiled(gpt2())
    expected = run(wrapper)
    patch(wrapper)
    assert_close(run(wrapper), expected)
    assert_ran(wrapper, "masked_attention")
    unpatch(wrapper)
    assert torch.equal(run(wrapper), expected)


def test_the_patch_of_a_part_is_the_patch_of_the_whole():
    model = gpt2()
    wrapper = Own(model)
    patch(wrapper)
    layers = [block.attn for block in model.transformer.h]
    patch(model.transformer, fused=False)
    assert all(a is b.attn for a, b in zip(layers, model.transformer.h, strict=True))
    run(wrapper)
    assert_ran(wrapper, "textbook")
    unpatch(wrapper)
    assert paths(model) == {}
    assert "_prepare_cache_for_generation" not in model.__dict__


def test_patched_restores_the_caches_of_a_wrapper():
    model = gpt2()
    wrapper = Own(model)
    patch(model.transformer)
    before = identities(wrapper)
    with patched(wrapper):
        assert isinstance(generate(model, IDS, MASK, 2).past_key_values, KVCache)
    assert identities(wrapper) == before


@pytest.mark.parametrize("name", named_heads("encoder-decoder", "vision-encoder-decoder"))
def test_the_decoder_of_an_encoder_decoder_is_found(name):
    model = HEADS[name].build()
    before = identities(model)
    patch(model)
    with torch.no_grad():
        model(**HEADS[name].inputs)
    assert_ran(model, "masked_attention")
    assert_ran(model.decoder, "masked_attention")
    assert "_prepare_cache_for_generation" not in model.__dict__
    unpatch(model)
    assert identities(model) == before


@pytest.mark.parametrize("function", [patch, unpatch, paths])
def test_several_models_are_refused_by_name(function):
    both = nn.ModuleDict({"actor": gpt2(), "critic": gpt2(model_class=GPT2Model)})
    before = identities(both)
    with pytest.raises(ValueError, match=r"2 models: actor\.transformer, critic;"):
        function(both)
    assert identities(both) == before
    patch(both["actor"])
    generate(both["actor"], IDS, MASK, 2)
    assert_ran(both["actor"], "cached_attention")
    assert paths(both["critic"]) == {}


def test_one_model_under_two_names_is_one():
    model = gpt2()
    shared = nn.ModuleDict({"actor": model, "reference": model})
    assert patch(shared) is shared
    generate(model, IDS, MASK, 2)
    assert_ran(shared, "cached_attention")


@pytest.mark.parametrize("function", [patch, unpatch, paths])
@pytest.mark.parametrize("other", [nn.Linear(2, 2), Own(nn.Identity()), object(), "gpt2", None])
def test_without_a_gpt2_inside(other, function):
    with pytest.raises(TypeError, match=rf"got {type(other).__name__}.*attn_implementation"):
        function(other)
