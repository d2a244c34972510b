"""Whoever looks at the shapes inside a model sees those of the padded batch."""

from __future__ import annotations

import functools

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import gpt2, positions_of, prompts
from transformers import GPT2Model
from transformers.integrations.neftune import neftune_post_forward_hook

from masked_attn import report
from masked_attn.hf import patch, patched, unpatch

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:masked_attn. stock attention runs"),
]

IDS, LEFT = prompts([5, 9, 3])


def last_is_louder(forward):
    """The last token of each row."""

    @functools.wraps(forward)
    def louder(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.last_hidden_state[:, -1] += 1.0
        return out

    return louder


@torch.no_grad()
def logits(model):
    inputs = {"attention_mask": LEFT, "position_ids": positions_of(LEFT)}
    return model(IDS, **inputs).logits[LEFT.bool()]


def test_a_forward_from_before_the_patch_gets_the_padded_batch():
    results = []
    for prepare in (lambda model: model, patch):
        model = gpt2()
        model.transformer.forward = last_is_louder(model.transformer.forward)
        results.append(logits(prepare(model)))
    torch.testing.assert_close(results[1], results[0], atol=2e-4, rtol=2e-4)
    assert "forward of the model was replaced" in report(model)["pads"]


def test_a_forward_of_the_class_gets_the_padded_batch(monkeypatch):
    models = [gpt2(), patch(gpt2())]
    louder = last_is_louder(GPT2Model.forward)
    louder.__module__ = __name__
    monkeypatch.setattr(GPT2Model, "forward", louder)
    expected, ours = map(logits, models)
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=2e-4)
    assert "GPT2Model.forward was replaced" in report(models[1])["pads"]


BACKWARD = {
    "backward": lambda module, hook: module.register_full_backward_hook(
        lambda module, inputs, outputs: hook(outputs)
    ),
    "backward-pre": lambda module, hook: module.register_full_backward_pre_hook(
        lambda module, outputs: hook(outputs)
    ),
}


@pytest.mark.parametrize("kind", BACKWARD)
def test_backward_hooks_see_padded_gradients(kind):
    model = patch(gpt2())
    shapes = []
    BACKWARD[kind](model.transformer.h[1].mlp, lambda grads: shapes.append(tuple(grads[0].shape)))
    model(IDS, attention_mask=LEFT, labels=IDS).loss.backward()
    assert shapes == [(3, 9, 32)]
    assert "the hook" in report(model)["pads"]  # although stock attention runs


def test_noise_on_embeddings_is_that_of_the_padded_batch():
    """Its size depends on the number of tokens of a row."""
    model = patch(gpt2()).train()
    model.transformer.wte.neftune_noise_alpha = 5.0
    model.transformer.wte.register_forward_hook(neftune_post_forward_hook)
    logits(model)
    assert "neftune" in report(model)["pads"]


def test_a_hook_on_the_fused_activation_outlives_it():
    model, calls = gpt2(), []
    with patched(model):
        act = model.transformer.h[0].mlp.act
        hook = act.register_forward_hook(lambda *args: calls.append(args[0]))
        logits(model)
        assert calls == [act]
    logits(model)
    assert calls == [act, act]
    hook.remove()
    logits(model)
    assert len(calls) == 2


def test_the_mode_of_an_activation_is_that_of_the_model():
    model = unpatch(patch(gpt2()).train())
    assert all(module.training for module in model.modules())
