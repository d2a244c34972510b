"""patch and unpatch of every family: one instance, once, and everything back as it was."""

from __future__ import annotations

import copy
import json

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close, identities
from hf.copies import pickled, torch_saved
from hf.families.batches import batch
from hf.families.compare import assert_ours
from hf.families.models import DECODERS, ENCODERS, each, quietly, some

from masked_attn.hf import patch, patched, paths, report, unpatch

pytestmark = pytest.mark.integration

EACH = each([*DECODERS, *ENCODERS])
SOME = some("llama", "gemma3", "bert", "modernbert")
HEADS = {"decoder": "ForCausalLM", "encoder": "ForMaskedLM"}


def build(family, **config):
    return family.build(HEADS[family.kind], **config)


def rows_for(family):
    """Padded where nobody reads a pad."""
    return batch(family, "left" if family.kind == "decoder" else "right", (5, 9, 3))


def run(model, family):
    return quietly(model, **rows_for(family).inputs()).logits


def everything(model):
    """What a patch might touch: objects by identity, and what the config says."""
    return [
        [(name, id(module), type(module)) for name, module in model.named_modules()],
        [{key: id(value) for key, value in module.__dict__.items()} for module in model.modules()],
        [[id(hook) for hook in module._forward_hooks.values()] for module in model.modules()],
        [(name, id(parameter)) for name, parameter in model.named_parameters()],
        [(name, id(buffer)) for name, buffer in model.named_buffers()],
        json.dumps(model.config.to_dict(), default=str),
        model.config._attn_implementation,
    ]


@EACH
def test_47_unpatch_gives_back_the_identical_objects(family):
    model = build(family)
    expected = run(model, family)  # stock code hooks its modules in the first forward
    before, attributes = everything(model), identities(model)
    assert patch(model) is model
    run(model, family)
    assert unpatch(model) is model
    assert everything(model) == before
    for (name, module, kept), (_, _, now) in zip(attributes, identities(model), strict=True):
        assert kept.keys() == now.keys(), name
        assert all(now[key] is value for key, value in kept.items()), (name, module)
    assert paths(model) == {}
    assert torch.equal(run(model, family), expected)
    assert unpatch(model) is model


@EACH
def test_46_patching_twice_is_once(family):
    model = build(family)
    before = everything(model)
    expected = run(patch(model), family)
    assert torch.equal(run(patch(model), family), expected)
    unpatch(model)
    assert everything(model) == before


@EACH
def test_48_a_model_that_shares_the_config_notices_nothing(family):
    model = build(family)
    other = type(model)(model.config).eval()
    other.load_state_dict(model.state_dict())
    assert other.config is model.config
    config, expected = copy.deepcopy(model.config.to_dict()), run(other, family)
    before = everything(other)
    written = dict(model.config.__dict__)
    patch(model)
    run(model, family)
    assert_ours(model)
    assert everything(other) == before
    assert model.config is other.config and model.config.to_dict() == config
    assert {key: id(value) for key, value in model.config.__dict__.items()} == {
        key: id(value) for key, value in written.items()
    }
    assert torch.equal(run(other, family), expected)
    assert paths(other) == {} and report(other) == {"patched": False}


@EACH
def test_a_block_of_patched_code(family):
    model = build(family)
    before = everything(model)
    with patched(model) as inside:
        assert inside is model
        run(model, family)
        assert_ours(model)
    assert everything(model) == before


@EACH
@pytest.mark.parametrize("way", [copy.deepcopy, pickled, torch_saved])
def test_49_copies_are_patched_and_independent(family, way):
    model = patch(build(family))
    expected = run(model, family)
    other = way(model)
    assert torch.equal(run(other, family), expected)
    assert_ours(other)
    unpatch(model)
    assert torch.equal(run(other, family), expected)
    assert_ours(other)
    before = everything(build(family))
    unpatch(other)
    assert [kept[:1] + kept[2:] for kept in everything(other)[0]] == [
        kept[:1] + kept[2:] for kept in before[0]
    ]
    assert_close(run(other, family)[:, -1], run(build(family), family)[:, -1])


@EACH
def test_50_a_saved_model_is_a_stock_model(family, tmp_path):
    model = build(family)
    model.save_pretrained(tmp_path / "stock")
    expected = run(model, family)
    patch(model)
    run(model, family)
    model.save_pretrained(tmp_path / "patched")
    for file in sorted((tmp_path / "stock").iterdir()):
        assert file.read_bytes() == (tmp_path / "patched" / file.name).read_bytes(), file.name
    again = type(model).from_pretrained(tmp_path / "patched", attn_implementation="eager")
    assert not report(again)["patched"]
    assert_close(run(again.eval(), family), expected)


@SOME
def test_state_dicts_and_names_are_those_of_stock(family):
    model = build(family)
    before = (list(model.state_dict()), [name for name, _ in model.named_modules()])
    patch(model)
    assert (list(model.state_dict()), [name for name, _ in model.named_modules()]) == before
    model.load_state_dict(build(family, seed=2).state_dict())
    expected = patch(build(family, seed=2))
    assert torch.equal(run(model, family), run(expected, family))


@SOME
def test_classes_stay_those_of_stock(family):
    """Registries of transformers are keyed by class names."""
    model = build(family)
    before = [type(module) for module in (model, model.base_model)]
    patch(model)
    assert [type(module) for module in (model, model.base_model)] == before
    assert model.config.model_type == build(family).config.model_type


@SOME
def test_report_before_and_after(family):
    model = build(family)
    assert report(model) == {"patched": False}
    patch(model)
    assert report(model)["patched"] and "layers" not in report(model)
    assert paths(model) == {}
    run(model, family)
    facts = report(model)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["padding_free"] and (facts["batch"], facts["queries"]) == (3, 9)
    assert len(facts["layers"]) == model.config.num_hidden_layers
    assert {layer["path"] for layer in facts["layers"]} == {"packed_attention"}
    assert all(layer["why"] is None for layer in facts["layers"])
    assert "packed_attention" in str(facts)


@SOME
def test_hooks_of_the_user_see_every_layer(family):
    model = build(family)
    attentions = [m for m in model.modules() if type(m).__name__.endswith("Attention")]
    seen = []
    for module in attentions:
        module.register_forward_hook(lambda module, args, out: seen.append(module))
    run(patch(model), family)
    assert seen and set(seen) <= set(attentions)
    first = len(seen)
    unpatch(model)
    run(model, family)
    assert len(seen) == 2 * first


@SOME
def test_weights_changed_in_place_are_used(family):
    """What was packed for fast layers must not be older than the weight."""
    model, other = patch(build(family)), build(family)
    run(model, family)
    for one in (model, other):
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.mul_(0.5)
    rows = rows_for(family)
    expected = quietly(other, **rows.asked()).logits
    assert_close(run(model, family)[rows.real], expected[rows.real])
