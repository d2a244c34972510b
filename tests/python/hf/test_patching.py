"""patch and unpatch: one instance, once, and everything back as it was."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

pytest.importorskip("transformers")

from hf.copies import pickled, torch_saved
from hf.models import generate, gpt2, gpt2_config, prompts
from transformers import BloomConfig, BloomForCausalLM, GPT2LMHeadModel, GPT2Model

from masked_attn.hf import KVCache, patch, patched, paths, unpatch

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 7, 2])


def run(model, tokens=6):
    return generate(model, IDS, MASK, tokens).sequences


def is_patched(model):
    run(model, 2)
    return set(paths(model).values()) == {"cached_attention"}


def snapshot(model):
    """Identities of everything that a patch might touch."""
    transformer = model.base_model
    layers = [block.attn for block in transformer.h]
    return [
        *layers,
        *[dict(layer.__dict__) for layer in layers],
        dict(model.__dict__),
        dict(transformer.__dict__),
        [type(m) for m in model.modules()],
        [(name, id(p)) for name, p in model.named_parameters()],
        model.config.to_dict(),
    ]


@pytest.mark.parametrize("times", [pytest.param(2, id="item-46-double-patch")])
def test_patching_twice_is_once(times):
    model = gpt2()
    before = snapshot(model)
    expected = run(model)
    for _ in range(times):
        assert patch(model) is model
    layers = [block.attn for block in model.transformer.h]
    patch(model)
    assert all(a is b.attn for a, b in zip(layers, model.transformer.h, strict=True))
    assert torch.equal(run(model), expected)
    unpatch(model)
    assert snapshot(model) == before


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", [pytest.param("back", id="item-47-unpatch")])
def test_unpatch_restores_the_identical_objects(name, fused):
    model = gpt2()
    before = snapshot(model)
    expected = run(model)
    patch(model, fused=fused)
    run(model)
    assert unpatch(model) is model
    assert snapshot(model) == before
    assert paths(model) == {}
    assert torch.equal(run(model), expected)
    assert unpatch(model) is model


@pytest.mark.parametrize(
    "shared", [pytest.param(True, id="item-48-shared-config"), pytest.param(False, id="item-48")]
)
def test_another_model_is_untouched(shared):
    config = gpt2_config()
    config._attn_implementation = "sdpa"
    model = GPT2LMHeadModel(config).eval()
    other = GPT2LMHeadModel(config if shared else gpt2_config()).eval()
    written, before = config.to_dict(), snapshot(other)
    patch(model)
    run(model)
    assert snapshot(other) == before
    assert config.to_dict() == written
    assert config._attn_implementation == "sdpa"
    assert not is_patched(other)
    assert type(model) is GPT2LMHeadModel
    assert type(model.transformer) is GPT2Model


def test_state_changes_reach_both_and_stay_after_unpatch():
    model = patch(gpt2())
    model.train().half()
    hook = model.transformer.h[0].attn.register_forward_hook(lambda *_: None)
    unpatch(model)
    layer = model.transformer.h[0].attn
    assert layer.config is model.config
    assert layer.training
    assert layer.c_attn.weight.dtype == torch.float16
    assert hook.id in layer._forward_hooks


def deep_copied(model):
    return copy.deepcopy(model)


@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(deep_copied, id="item-49-deepcopy"),
        pytest.param(pickled, id="item-49-pickle"),
        pytest.param(torch_saved, id="item-49-torch-save"),
    ],
)
def test_a_copy_is_patched_and_independent(duplicate):
    model = patch(gpt2())
    expected = run(model)
    twin = duplicate(model)
    assert twin.transformer.forward.model is twin.transformer
    assert is_patched(twin)
    assert torch.equal(run(twin), expected)

    twin.train()
    unpatch(twin)
    assert all(block.attn.training for block in twin.transformer.h)
    twin.eval()
    assert torch.equal(run(twin), expected)
    assert is_patched(model)
    with torch.no_grad():
        twin.transformer.h[0].attn.c_attn.weight.zero_()
    assert torch.equal(run(model), expected)


@pytest.mark.parametrize("name", [pytest.param("disk", id="item-50-save-pretrained")])
def test_a_checkpoint_is_that_of_the_stock_model(name, tmp_path):
    stock, model = gpt2(), patch(gpt2())
    stock.save_pretrained(tmp_path / "stock")
    model.save_pretrained(tmp_path / "patched")
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "stock" / file).read_bytes() == (
            tmp_path / "patched" / file
        ).read_bytes()
    program = (
        "import sys; sys.modules['masked_attn'] = None\n"
        "from transformers import GPT2LMHeadModel\n"
        f"GPT2LMHeadModel.from_pretrained({str(tmp_path / 'patched')!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path / "patched").eval()
    assert not is_patched(loaded)
    assert torch.equal(run(loaded), run(stock))


def test_state_dict_has_no_new_keys():
    assert list(patch(gpt2()).state_dict()) == list(gpt2().state_dict())


def test_patched_restores_what_was_there():
    model = gpt2()
    before = snapshot(model)
    with patched(model, fused=False) as inside:
        assert inside is model
        run(model)
        assert set(paths(model).values()) == {"textbook"}
    assert snapshot(model) == before

    patch(model)
    with pytest.raises(KeyError), patched(model, fused=False):
        raise KeyError
    assert is_patched(model)


def test_fused_is_switched_by_patching_again():
    model = patch(gpt2())
    patch(model, fused=False)
    run(model)
    assert set(paths(model).values()) == {"textbook"}


def test_patched_leaves_no_cache_hook_where_only_the_transformer_was_patched():
    model = gpt2()
    patch(model.transformer)
    before = set(model.__dict__)
    with patched(model):
        assert set(model.__dict__) != before
    assert set(model.__dict__) == before


def test_a_model_of_another_kind_is_refused_with_the_way_out():
    other = BloomForCausalLM(BloomConfig(hidden_size=8, n_layer=1, n_head=1, vocab_size=50))
    for function in (patch, unpatch, paths):
        with pytest.raises(TypeError, match=r"BloomForCausalLM.*attn_implementation"):
            function(other)
    with pytest.raises(TypeError, match="got int"):
        patch(3)


def test_changes_by_others_are_not_lost():
    model = gpt2()
    mine = model.transformer.forward
    model.transformer.forward = mine
    patch(model)
    run(model)
    assert unpatch(model).transformer.__dict__["forward"] == mine

    patch(model)
    ours = model.transformer.forward
    model.transformer.forward = lambda *args, **kwargs: ours(*args, **kwargs)
    with pytest.raises(RuntimeError, match="undo that"):
        unpatch(model)
    with pytest.raises(RuntimeError, match="undo that"):
        patch(model)


def test_replaced_attention_is_noticed():
    model = patch(gpt2())
    foreign = copy.deepcopy(gpt2().transformer.h[0].attn)
    model.transformer.h[0].attn = foreign
    with pytest.raises(RuntimeError, match="replaced after patch"):
        run(model)
    unpatch(model)
    assert model.transformer.h[0].attn is foreign
    assert is_patched(patch(model))


def test_bare_transformer_can_be_patched():
    model = gpt2()
    patch(model.transformer)
    assert "_prepare_cache_for_generation" not in model.__dict__
    assert isinstance(generate(patch(model), IDS, MASK, 3).past_key_values, KVCache)
