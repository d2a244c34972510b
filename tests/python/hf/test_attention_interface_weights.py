"""output_attentions and masked rows have one meaning, with gradients and without."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import gpt2, prompts
from hf.test_attention_interface import llama

from masked_attn.hf.attention import interface as attention_interface
from masked_attn.hf.attention.textbook import textbook_attention
from masked_attn.hf.call.visibility import Visibility

pytestmark = pytest.mark.integration

LENGTHS = [5, 9, 3]
FILLS = {"min": torch.finfo(torch.float32).min, "inf": -math.inf}


def gpt2_on(implementation):
    return gpt2(implementation=implementation)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("make", [gpt2_on, llama])
def test_69_weights_whatever_the_grad_mode(make, grad):
    ids, mask = prompts(LENGTHS)
    with torch.set_grad_enabled(grad):
        ours = make("masked_attn")(ids, attention_mask=mask, output_attentions=True)
    stock = make("eager")(ids, attention_mask=mask, output_attentions=True)
    real = mask.bool()[:, None].expand(ours.attentions[0].shape[:3])
    for weights, expected in zip(ours.attentions, stock.attentions, strict=True):
        torch.testing.assert_close(weights[real], expected[real], atol=1e-5, rtol=1e-4)
        assert (weights[~real] == 0).all()
        assert weights.requires_grad == grad


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(6)
    made = (torch.randn(2, 4, 5, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    return tuple(x.requires_grad_() for x in made)


def mask_with_empty_rows(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A 4-D mask whose first two queries of batch row 1 see nothing, and where it is True."""
    seen = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    seen[1, :, :, :2] = False
    if kind == "bool":
        return seen, seen
    return torch.zeros(seen.shape, dtype=torch.float32).masked_fill(~seen, FILLS[kind]), seen


def oracle(q, k, v, seen, scale):
    """Eager attention of the rows that see something; empty rows are 0."""
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~seen, -math.inf)
    alive = seen.any(-1, keepdim=True)
    weights = torch.softmax(torch.where(alive, scores, 0.0), -1) * alive
    return weights @ v, weights


@pytest.mark.parametrize("kind", ["bool", "min", "inf"])
def test_69_gradients_of_the_textbook_path(kind):
    mask, seen = mask_with_empty_rows(kind)
    grad = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    results = []
    for way in ("ours", "oracle"):
        q, k, v = inputs()
        if way == "ours":
            visibility = Visibility(keys=5, attn_mask=mask)
            out, weights = textbook_attention(q, k, v, visibility, scale=0.5)
        else:
            out, weights = oracle(q, k, v, seen, 0.5)
        (out * grad).sum().backward()
        results.append([out, weights, q.grad, k.grad, v.grad])
    torch.testing.assert_close(results[0], results[1])
    assert (results[0][0][1, :, :2] == 0).all() and (results[0][2][1, :, :2] == 0).all()


def test_69_gradient_of_a_bias():
    bias = torch.randn(1, 4, 5, 5, dtype=torch.float64).requires_grad_()
    q, k, v = inputs()
    _, weights = textbook_attention(q, k, v, Visibility(keys=5, attn_mask=bias), scale=0.5)
    (weights * torch.arange(5.0)).sum().backward()
    ours, bias.grad = bias.grad, None
    expected = torch.softmax(q @ k.transpose(-1, -2) * 0.5 + bias, -1)
    (expected * torch.arange(5.0)).sum().backward()
    torch.testing.assert_close(ours, bias.grad)


@pytest.mark.parametrize("kind", ["bool", "min", "inf"])
@pytest.mark.parametrize("grad", [True, False])
def test_69_empty_rows_of_the_caller_are_zero_whatever_the_grad_mode(grad, kind):
    mask, seen = mask_with_empty_rows(kind)
    q, k, v = (x.detach().float().requires_grad_(grad) for x in inputs())
    out, _ = attention_interface.attention_forward(torch.nn.Module(), q, k, v, mask)
    expected, _ = oracle(q.double(), k.double(), v.double(), seen, 8**-0.5)
    torch.testing.assert_close(out, expected.transpose(1, 2).float(), atol=1e-5, rtol=1e-4)
    if grad:
        out.sum().backward()
        assert all(x.grad.isfinite().all() for x in (q, k, v))
        assert (q.grad[1, :, :2] == 0).all()


def test_dropout_keeps_masked_rows_at_zero():
    mask, _ = mask_with_empty_rows("min")
    q, k, v = (x.detach().requires_grad_() for x in inputs())
    visibility = Visibility(keys=5, attn_mask=mask)
    out, weights = textbook_attention(q, k, v, visibility, scale=0.5, dropout=0.5)
    out.sum().backward()
    assert (weights[1, :, :2] == 0).all() and q.grad.isfinite().all()
