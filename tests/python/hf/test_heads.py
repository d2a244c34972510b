"""Models with a GPT-2 inside give what stock gives, by our path, and are saved as stock."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

pytest.importorskip("transformers")

from hf.checks import assert_close, assert_ran, identities
from hf.copies import pickled, torch_saved
from hf.heads import ENCODED, HEADS, PIXELS, buildable, named_heads
from hf.models import generate

from masked_attn.hf import KVCache, patch, paths, unpatch

pytestmark = pytest.mark.integration

EVERY_HEAD = named_heads(*HEADS)
GPT2_HEADS = [name for name in HEADS if "encoder" not in name]
GENERATING = {
    "encoder-decoder": (ENCODED["input_ids"], ENCODED["attention_mask"]),
    "vision-encoder-decoder": (PIXELS["pixel_values"], None),
}


@torch.no_grad()
def run(model, head, **more):
    return model(**head.inputs, **more)


def assert_outputs_close(ours, expected, head):
    for name, real in head.outputs.items():
        assert_close(ours[name][real], expected[name][real])


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "textbook"])
@pytest.mark.parametrize("name", EVERY_HEAD)
def test_outputs_equal_stock(name, fused):
    head = HEADS[name]
    expected = run(head.build(), head)
    model = patch(head.build(), fused=fused)
    ours = run(model, head)
    assert_ran(model, "masked_attention" if fused else "textbook")
    assert ours.keys() == expected.keys()
    assert_outputs_close(ours, expected, head)


@pytest.mark.parametrize("name", GPT2_HEADS)
def test_outputs_from_our_cache_equal_stock(name):
    head = HEADS[name]
    model = patch(head.build())
    ours = run(model, head, past_key_values=KVCache(), use_cache=True)
    assert_ran(model, "packed_attention")
    assert_outputs_close(ours, run(head.build(), head, use_cache=True), head)


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].labels])
def test_losses_equal_stock(name):
    head = HEADS[name]
    # A pad before the first token predicts it, and a question may be answered by a pad.
    model = patch(head.build(), padding_free=False)
    ours, expected = run(model, head, **head.labels), run(head.build(), head, **head.labels)
    assert_ran(model, "masked_attention")
    losses = [key for key in expected if "loss" in key]
    assert losses == [key for key in ours if "loss" in key] and losses
    for key in losses:
        assert expected[key] > 0.1
        assert_close(ours[key], expected[key])


@pytest.mark.parametrize("name", EVERY_HEAD)
def test_gradients_are_those_of_stock(name):
    head, gradients = HEADS[name], []
    for model in (head.build(), patch(head.build())):
        out = model(**head.inputs)
        sum(out[key][real].square().mean() for key, real in head.outputs.items()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert_ran(model, "stock")
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for parameter, gradient in gradients[0].items():
        close = {"atol": 1e-4, "rtol": 1e-3, "msg": parameter}
        torch.testing.assert_close(gradients[1][parameter], gradient, **close)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", named_heads(*GENERATING))
def test_encoder_decoder_generates_as_stock(name, beams):
    inputs, mask = GENERATING[name]
    model = patch(HEADS[name].build())
    expected = generate(HEADS[name].build(), inputs, mask, 10, num_beams=beams)
    result = generate(model, inputs, mask, 10, num_beams=beams)
    assert_ran(model, "masked_attention")
    assert torch.equal(result.sequences, expected.sequences)
    assert len(expected.sequences.unique(dim=0)) == 3, "the encoder does not matter"


@pytest.mark.parametrize("name", EVERY_HEAD)
def test_unpatch_brings_back_the_identical_objects(name):
    head = HEADS[name]
    model = head.build()
    run(model, head)
    before = identities(model)
    run(patch(model), head)
    assert_ran(model, "masked_attention")
    unpatch(model)
    assert identities(model) == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, torch_saved])
@pytest.mark.parametrize("name", EVERY_HEAD)
def test_a_copy_is_patched_and_can_be_unpatched(name, duplicate):
    head = HEADS[name]
    model = patch(head.build())
    expected = run(model, head)
    twin = duplicate(model)
    assert paths(twin) == {}
    theirs = run(twin, head)
    assert_ran(twin, "masked_attention")
    for key, real in head.outputs.items():
        assert torch.equal(theirs[key][real], expected[key][real])
    unpatch(twin)
    assert not any("masked_attn" in type(m).__module__ for m in twin.modules())
    run(model, head)
    assert_ran(model, "masked_attention")


@pytest.mark.parametrize("name", EVERY_HEAD)
def test_the_checkpoint_is_that_of_stock(name, tmp_path):
    head = HEADS[name]
    stock, model = head.build(), patch(head.build())
    assert list(model.state_dict()) == list(stock.state_dict())
    stock.save_pretrained(tmp_path / "stock")
    model.save_pretrained(tmp_path / "patched")
    files = sorted(path.name for path in (tmp_path / "stock").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "patched").iterdir())
    for file in files:
        stock_bytes = (tmp_path / "stock" / file).read_bytes()
        assert (tmp_path / "patched" / file).read_bytes() == stock_bytes
    loaded = head.model_class.from_pretrained(tmp_path / "patched").eval()
    assert paths(loaded) == {}
    assert_outputs_close(run(loaded, head), run(stock, head), head)


def test_checkpoints_load_where_masked_attn_is_not_installed(tmp_path):
    lines = ["import sys; sys.modules['masked_attn'] = None", "import transformers"]
    for name in filter(buildable, HEADS):
        head = HEADS[name]
        patch(head.build()).save_pretrained(tmp_path / name)
        load = f"transformers.{head.model_class.__name__}.from_pretrained"
        lines.append(f"{load}({str(tmp_path / name)!r})")
    lines.append("assert 'masked_attn.hf' not in sys.modules")
    program = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
