"""What we lean on in transformers and accelerate that is not promised to us.

Each guard looks at the interface itself, with stock models, and never at our code.
"""

from __future__ import annotations

import inspect

import pytest
import torch

pytest.importorskip("transformers")

from hf.layer_classes import CLASSES, instance
from hf.models import generate, gpt2, prompts
from support.private_interfaces import guard
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    EncoderDecoderCache,
    GPT2Config,
    StaticCache,
)
from transformers.activations import (
    ACT2FN,
    GELUActivation,
    GELUTanh,
    NewGELUActivation,
    SiLUActivation,
)
from transformers.cache_utils import DynamicLayer, StaticLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    create_bidirectional_mask,
    create_causal_mask,
    sdpa_mask,
)
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

from masked_attn.hf.layers.recipes import recipe_of

pytestmark = pytest.mark.integration

IDS, MASK = prompts([5, 9, 3])
STATES = torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(3))
KEYS = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(4))


class Stop(Exception):
    """Ends a forward once it has shown what it should."""


def seen_by(module, call):
    """Positional and keyword arguments of the first call of ``module``."""
    seen = []

    def look(module, args, kwargs):
        seen.append((args, kwargs))

    with module.register_forward_pre_hook(look, with_kwargs=True), torch.no_grad():
        call()
    return seen[0]


@guard
def test_unknown_keywords_reach_self_attention_only():
    model = gpt2(add_cross_attention=True)
    ours = object()
    block = model.transformer.h[1]
    run = lambda: model.transformer(IDS, encoder_hidden_states=STATES, ours=ours)  # noqa: E731
    assert seen_by(block.attn, run)[1]["ours"] is ours
    assert "ours" not in seen_by(block.crossattention, run)[1]


@guard
def test_plain_masks_are_known_by_identity():
    asked = []

    def note(mask_function=None, **kwargs):
        asked.append((mask_function, kwargs))

    AttentionInterface.register("noting", sdpa_attention_forward)
    AttentionMaskInterface.register("noting", note)
    config = gpt2().config
    config._attn_implementation = "noting"
    inputs = {"config": config, "inputs_embeds": STATES}
    padded = torch.ones(3, 6).index_fill(1, torch.tensor([0]), 0)
    create_causal_mask(
        **inputs, attention_mask=padded, past_key_values=None, position_ids=torch.arange(6)[None]
    )
    create_bidirectional_mask(**inputs, attention_mask=padded, encoder_hidden_states=STATES)
    functions, keywords = zip(*asked, strict=True)
    assert functions == (causal_mask_function, bidirectional_mask_function)
    for given in keywords:
        assert {"batch_size", "q_length", "kv_length", "kv_offset"} <= given.keys()
        assert given["attention_mask"].shape == (3, 6)
        assert given["attention_mask"].dtype == torch.bool


@guard
def test_sdpa_of_transformers():
    mask = sdpa_mask(
        batch_size=2, q_length=3, kv_length=3, attention_mask=None, allow_is_causal_skip=False
    )
    assert mask.shape[-2:] == (3, 3) and mask.dtype == torch.bool
    assert torch.equal(mask[0, 0], torch.ones(3, 3).tril().bool())
    module = torch.nn.Module()
    out, weights = sdpa_attention_forward(
        module, KEYS, KEYS, KEYS, mask, dropout=0.0, scaling=0.5, is_causal=False
    )
    assert out.shape == (2, 3, 2, 4) and weights is None


@guard
def test_the_implementation_is_in_the_config():
    assert gpt2(implementation="eager").config._attn_implementation == "eager"
    assert gpt2().config._attn_implementation == "sdpa"


@guard
def test_generate_prepares_its_cache_by_a_method():
    model, asked = gpt2(), []

    def prepare(generation_config, model_kwargs, generation_mode, batch_size, max_cache_length):
        asked.append((batch_size, max_cache_length))
        assert hasattr(generation_config, "cache_implementation")
        assert hasattr(generation_config, "use_cache")
        model_kwargs["past_key_values"] = cache

    cache = DynamicCache(config=model.config)
    model.__dict__["_prepare_cache_for_generation"] = prepare
    result = generate(model, IDS, MASK, 4)
    assert result.past_key_values is cache
    assert asked == [(3, 9 + 3)]


@guard
def test_the_activation_of_a_block():
    act = gpt2().transformer.h[0].mlp.act
    assert type(act) is NewGELUActivation
    assert not list(act.parameters()) and not list(act.buffers()) and not act._modules
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(act(x), expected, atol=1e-14, rtol=1e-14)


@guard
def test_the_mlp_of_a_block():
    mlp = gpt2(resid_pdrop=0.0).transformer.h[0].mlp
    assert type(mlp) is GPT2MLP and set(mlp._modules) == {"c_fc", "act", "c_proj", "dropout"}
    assert type(mlp.c_fc) is type(mlp.c_proj) is Conv1D
    x = torch.linspace(-4, 4, 64).view(2, 32)
    assert torch.equal(mlp(x), mlp.dropout(mlp.c_proj(mlp.act(mlp.c_fc(x)))))
    names = inspect.signature(GPT2MLP.forward).parameters
    assert list(names) == ["self", "hidden_states"]
    for name, plain in (("gelu_pytorch_tanh", GELUTanh), ("gelu", GELUActivation)):
        assert type(ACT2FN[name]) is plain
    approximate = torch.nn.functional.gelu(x.double(), approximate="tanh")
    torch.testing.assert_close(GELUTanh()(x.double()), approximate)
    torch.testing.assert_close(GELUActivation()(x), torch.nn.functional.gelu(x))
    torch.testing.assert_close(SiLUActivation()(x), torch.nn.functional.silu(x))


@guard
@pytest.mark.parametrize(("family", "name"), CLASSES, ids=[name for _, name in CLASSES])
def test_the_parts_of_a_class_with_a_recipe(family, name):
    module = instance(family, name)
    recipe = recipe_of(type(module))
    assert set(module._modules) == recipe.parts
    assert type(module.get_submodule(recipe.first)) is torch.nn.Linear
    first, *others = inspect.signature(type(module).forward.__get__(module)).parameters.values()
    assert first.kind is first.POSITIONAL_OR_KEYWORD
    assert all(other.kind is other.VAR_KEYWORD for other in others)


@guard
def test_layers_of_a_cache():
    cache = DynamicCache()
    assert cache.offloading is False
    assert isinstance(cache.layer_class_to_replicate(), DynamicLayer)
    cache.update(KEYS, KEYS, 1)
    assert len(cache.layers) == 2
    layer = cache.layers[1]
    assert layer.is_initialized and torch.equal(layer.keys, KEYS)
    assert cache.layers[0].is_initialized is False
    assert layer.get_mask_sizes(2) == (5, 0)
    fresh = DynamicLayer()
    fresh.lazy_initialization(KEYS, KEYS)
    assert fresh.is_initialized and fresh.device == KEYS.device


@guard
def test_crop_needs_views_only():
    layer = DynamicLayer()
    layer.keys, layer.values, layer.is_initialized = KEYS, KEYS, True
    layer.crop(-1)
    assert torch.equal(layer.keys, KEYS[:, :, :2])
    assert layer.keys.data_ptr() == KEYS.data_ptr()


@guard
def test_static_layers_count_in_a_tensor():
    layer = StaticLayer(max_cache_len=5)
    assert not layer.is_initialized
    layer.lazy_initialization(KEYS, KEYS)
    assert layer.is_initialized and layer.keys.shape == (2, 2, 5, 4)
    counted = layer.cumulative_length
    assert counted.dtype == torch.int64 and counted.numel() == 1
    layer.update(KEYS, KEYS)
    assert layer.cumulative_length is counted and counted.item() == 3
    layer.update(KEYS[:, :, :1], KEYS[:, :, :1])
    assert torch.equal(layer.keys[:, :, 3], KEYS[:, :, 0])
    assert not layer.keys[:, :, 4].any()
    caches = StaticCache(config=GPT2Config(n_layer=2), max_cache_len=5)
    assert [type(layer) for layer in caches.layers] == [StaticLayer] * 2


@guard
def test_a_cache_of_both_kinds_says_what_is_computed():
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    model = gpt2(add_cross_attention=True)
    with torch.no_grad():
        model(IDS, encoder_hidden_states=STATES, past_key_values=cache)
    assert cache.is_updated == {0: True, 1: True}
    assert cache.cross_attention_cache.layers[1].keys.shape == (3, 2, 6, 16)
    assert cache.self_attention_cache.layers[1].keys.shape == (3, 2, 9, 16)


@guard
def test_stock_looks_for_pads_by_a_method():
    model, calls = gpt2(), []
    model.transformer.warn_if_padding_and_no_attention_mask = lambda *args: calls.append(args)
    with torch.no_grad():
        model(IDS)
    assert len(calls) == 1
    ids, mask = calls[0]
    assert ids is IDS and mask is None


@guard
def test_hooks_of_accelerate():
    hooks = pytest.importorskip("accelerate.hooks")
    module = torch.nn.Identity()
    hooks.add_hook_to_module(module, hooks.AlignDevicesHook("cpu"))
    assert type(module.__dict__["_hf_hook"]) is hooks.AlignDevicesHook
    assert module.__dict__["_old_forward"].__func__ is torch.nn.Identity.forward
    hooks.add_hook_to_module(module, hooks.ModelHook(), append=True)
    kinds = [type(hook) for hook in module.__dict__["_hf_hook"].hooks]
    assert kinds == [hooks.AlignDevicesHook, hooks.ModelHook]
    hooks.remove_hook_from_module(module)
    assert not {"_hf_hook", "_old_forward"} & module.__dict__.keys()
