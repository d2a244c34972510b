"""Changed weights, quantised and replaced modules: kept as they are, or refused by name."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

pytest.importorskip("transformers")

from hf.checks import assert_close, assert_ran, identities
from hf.models import generate, gpt2, positions_of, prompts
from transformers.models.gpt2 import modeling_gpt2
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from masked_attn.hf import KVCache, patch, paths, unpatch
from masked_attn.hf.instance.attention_config import AttentionConfig

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])
REAL = MASK.bool()
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
WHEN = pytest.mark.parametrize("when", ["changed-first", "patched-first"])


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def parametrized(model):
    for block in model.transformer.h:
        parametrize.register_parametrization(block.attn.c_attn, "weight", Halved())
    return model


def spectral(model):
    torch.manual_seed(3)
    for block in model.transformer.h:
        parametrizations.spectral_norm(block.attn.c_proj)
    return model.eval()


def weight_norm(model):
    for block in model.transformer.h:
        parametrizations.weight_norm(block.attn.c_attn)
        with torch.no_grad():
            block.attn.c_attn.parametrizations.weight.original0.mul_(2)
    return model


def pruned(model):
    for block in model.transformer.h:
        prune.l1_unstructured(block.attn.c_attn, "weight", amount=0.5)
    return model


def with_linears(model):
    """``nn.Linear`` in place of every ``Conv1D``, as quantisation wants it."""
    for block in model.transformer.h:
        for parent in (block.attn, block.mlp):
            for name, old in list(parent.named_children()):
                if type(old).__name__ == "Conv1D":
                    linear = nn.Linear(*old.weight.shape)
                    linear.weight.data, linear.bias.data = old.weight.data.T, old.bias.data
                    setattr(parent, name, linear)
    return model


def quantized(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)


def quantized_linears(model):
    return quantized(with_linears(model))


QUANTIZED = [quantized, quantized_linears]
CHANGES = [parametrized, spectral, weight_norm, pruned, *QUANTIZED]


def run(model):
    with torch.no_grad():
        return model(**INPUTS, use_cache=False).logits[REAL]


@WHEN
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights(change, when):
    if change in QUANTIZED and not torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no engine for quantised linears")
    plain, stock = run(gpt2()), change(gpt2())
    expected, result = run(stock), generate(stock, IDS, MASK, 8)
    assert (expected - plain).abs().max() > 1e-2, "nothing was changed"

    # Where activations are rounded to 8 bits, the last bit of an input may become a whole step, and
    # the steps are those of all tokens, pads included.
    exact = change not in QUANTIZED
    first = patch(change(gpt2()) if when == "changed-first" else gpt2(), padding_free=exact)
    model = first if when == "changed-first" else change(first)
    torch.testing.assert_close(run(model), expected, atol=2e-4 if exact else 0.02, rtol=1e-4)
    assert_ran(model, "masked_attention")
    ours = generate(model, IDS, MASK, 8)
    assert_ran(model, "cached_attention")
    assert isinstance(ours.past_key_values, KVCache)
    assert not exact or torch.equal(ours.sequences, result.sequences)

    unpatch(model)
    assert paths(model) == {}
    assert not any(isinstance(m.__dict__.get("config"), AttentionConfig) for m in model.modules())
    assert len(list(model.modules())) == len(list(stock.modules()))
    assert torch.equal(run(model), expected)


def test_quantising_a_patched_model_leaves_it_as_it_is():
    """``quantize_dynamic`` changes a copy; the copy is patched, too, and on its own."""
    model = patch(gpt2())
    expected = run(model)
    twin = quantized(model)
    unpatch(model)
    run(twin)
    assert_ran(twin, "masked_attention")
    assert torch.equal(run(patch(model)), expected)


def test_linears_in_place_of_the_layers_of_gpt2():
    model = patch(with_linears(gpt2()))
    assert_close(run(model), run(gpt2()))
    assert_ran(model, "masked_attention")


@WHEN
def test_a_parametrization_can_be_removed(when):
    expected = run(parametrized(gpt2()))
    model = patch(parametrized(gpt2())) if when == "changed-first" else parametrized(patch(gpt2()))
    for block in model.transformer.h:
        parametrize.remove_parametrizations(block.attn.c_attn, "weight")
    assert_close(run(model), expected)
    assert_ran(model, "masked_attention")
    assert model.state_dict().keys() == gpt2().state_dict().keys()


class QuantizedAttention(GPT2Attention):
    pass


def test_attention_of_another_class_is_refused_by_name():
    model = gpt2()
    model.transformer.h[1].attn = QuantizedAttention(model.config, layer_idx=1)
    before = identities(model)
    with pytest.raises(TypeError, match="layer 1: attn is of class QuantizedAttention"):
        patch(model)
    assert identities(model) == before


def test_attention_that_was_replaced_for_all_models_is_refused_by_name(monkeypatch):
    def faster_forward(self, hidden_states, *args, **kwargs):
        return hidden_states, None

    model = gpt2()
    before = identities(model)
    monkeypatch.setattr(modeling_gpt2.GPT2Attention, "forward", faster_forward)
    with pytest.raises(TypeError, match=r"GPT2Attention\.forward was replaced by .*faster_forward"):
        patch(model)
    assert identities(model) == before


class Scaled(nn.Module):
    """A user's wrapper around a block."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, *args, **kwargs):
        return self.block(*args, **kwargs) * 1.5


def wrapped_blocks(model, wrap):
    for number, block in enumerate(model.transformer.h):
        model.transformer.h[number] = wrap(block)
    return model


WRAPS = {"own": Scaled, "compiled": lambda block: torch.compile(block, backend="eager")}


@pytest.mark.parametrize("name", WRAPS)
def test_wrapped_blocks_are_refused_before_and_run_stock_after(name):
    stock = wrapped_blocks(gpt2(), WRAPS[name])
    expected = run(stock)
    with pytest.raises(TypeError, match="layer 0: it is wrapped in (Scaled|OptimizedModule)"):
        patch(stock)

    model = wrapped_blocks(patch(gpt2()), WRAPS[name])
    assert_close(run(model), expected)
    assert_ran(model, "stock")
    unpatch(model)
    assert not any(isinstance(m.__dict__.get("config"), AttentionConfig) for m in model.modules())
    assert torch.equal(run(model), expected)


def test_blocks_compiled_in_place_run_on_the_operators():
    stock, model = gpt2(), patch(gpt2())
    for m in (stock, model):
        for block in m.transformer.h:
            block.compile(backend="eager")
    assert_close(run(model), run(stock))
    assert_ran(model, "masked_attention")
    torch.compiler.reset()


def test_patched_blocks_in_another_model_are_refused():
    model, other = patch(gpt2()), gpt2()
    other.transformer.h = model.transformer.h
    for function in (patch, unpatch, paths):
        with pytest.raises(RuntimeError, match="wrapped or lost after patch"):
            function(other)


@pytest.mark.parametrize("kept", [[0, 2], [0, 1], [2, 1, 0]])
def test_a_model_that_lost_layers(kept):
    results = []
    for prepare in (lambda m: m, patch):
        model = gpt2(layers=3)
        model.transformer.h = nn.ModuleList(model.transformer.h[number] for number in kept)
        results.append((run(prepare(model)), generate(model, IDS, MASK, 8).sequences))
    assert_ran(model, "cached_attention")
    assert sorted(paths(model)) == sorted(kept)
    assert_close(results[1][0], results[0][0])
    assert torch.equal(results[1][1], results[0][1])


def test_a_copied_block_keeps_its_number():
    """A frozen copy of a layer, as in layer grafting, shares its slot of the cache with none."""
    model = gpt2()
    model.transformer.h[1] = copy.deepcopy(model.transformer.h[1])
    expected = run(model)
    assert_close(run(patch(model)), expected)
    assert_ran(model, "masked_attention")
