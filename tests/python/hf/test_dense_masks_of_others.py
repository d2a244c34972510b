"""4-D masks say what may be seen, not which queries somebody reads: all are computed."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from transformers import DynamicCache

from masked_attn import patched

from .models import CACHE, gpt2

pytestmark = pytest.mark.integration

IDS = torch.arange(14).reshape(2, 7) % 11 + 2
TRIANGLE = torch.ones(7, 7, dtype=torch.bool).tril()
RIGHT = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def same_as_stock(model, call):
    expected = call(model)
    with patched(model):
        found = call(model)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_queries_that_see_only_the_cache():
    def probe(model):
        cache = DynamicCache(config=model.config)
        model(input_ids=IDS[:, :4], **{CACHE: cache})
        mask = torch.ones(2, 1, 3, 7, dtype=torch.bool)
        mask[..., 4:] = False
        positions = torch.tensor([[4, 4, 4]])
        inputs = {"input_ids": IDS[:, 4:], "attention_mask": mask, "position_ids": positions}
        return model(**inputs, **{CACHE: cache}).logits

    same_as_stock(gpt2(), probe)


@torch.no_grad()
def test_keys_that_a_later_call_sees():
    def two_calls(model):
        cache = DynamicCache(config=model.config)
        first = TRIANGLE[:4, :4].expand(2, 1, 4, 4).clone()
        first[0, ..., 2:] = False
        model(input_ids=IDS[:, :4], attention_mask=first, **{CACHE: cache})
        later = TRIANGLE[4:].expand(2, 1, 3, 7)
        return model(input_ids=IDS[:, 4:], attention_mask=later, **{CACHE: cache}).logits

    same_as_stock(gpt2(), two_calls)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_loss_of_every_token(side):
    real = RIGHT if side == "right" else RIGHT.flip(1)
    mask = real[:, None, None] & TRIANGLE

    def loss(model):
        return model(input_ids=IDS, attention_mask=mask, labels=IDS).loss

    same_as_stock(gpt2(), loss)


def test_the_gradient_of_a_mask():
    def gradient(model):
        mask = torch.zeros(2, 1, 7, 7).masked_fill(
            ~(RIGHT[:, None, None] & TRIANGLE), torch.finfo(torch.float32).min
        )
        mask.requires_grad_()
        out = model(input_ids=IDS, attention_mask=mask, use_cache=False).logits
        out[RIGHT].square().sum().backward()
        return mask.grad

    same_as_stock(gpt2(), gradient)


def test_a_tangent_through_a_layer_and_its_export():
    model = gpt2().requires_grad_(False)
    mlp, x = model.transformer.h[0].mlp, torch.ones(2, model.config.n_embd)
    expected = torch.func.jvp(mlp, (x,), (x,))
    with patched(model):
        torch.testing.assert_close(torch.func.jvp(mlp, (x,), (x,)), expected)
        exported = torch.export.export(mlp, (x,))
        torch.testing.assert_close(exported.module()(x), mlp(x))
