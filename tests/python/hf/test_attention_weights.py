"""``output_attentions`` has one meaning whatever the mode: real weights, and 0 in rows of pads."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import STOCK_PARTS, gpt2, positions_of, prompts

from masked_attn.hf import patch, paths

pytestmark = pytest.mark.integration

IDS, LEFT = prompts([4, 7, 2])
HOLES = LEFT.clone()
HOLES[1, 2:4] = 0
MASKS = {"left": LEFT, "holes": HOLES}


def checkpointing(model):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()


MODES = {
    "no-gradients": lambda model: model.requires_grad_(False),
    "gradients": lambda model: None,
    "adapter": lambda model: model.requires_grad_(False).lm_head.requires_grad_(True),
    "checkpointing": checkpointing,
}


def rows(mask):
    """Which queries of ``[batch, heads, queries]`` see something: those behind a first token."""
    return (mask.cumsum(-1) > 0)[:, None].expand(-1, 2, -1)


@pytest.mark.filterwarnings("ignore:`use_cache=True` is incompatible")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("mask", MASKS)
def test_69_weights(mask, implementation, mode):
    mask = MASKS[mask]
    given = {"attention_mask": mask, "position_ids": positions_of(mask), "output_attentions": True}
    labels = IDS.masked_fill((mask == 0) | ~torch.nn.functional.pad(mask > 0, (1, -1)), -100)
    stock = gpt2(implementation="eager")
    model = patch(gpt2(implementation=implementation), **STOCK_PARTS)
    for m in (stock, model):
        MODES[mode](m)
    expected, ours = (m(IDS, labels=labels, **given) for m in (stock, model))
    assert set(paths(model).values()) == {"textbook"}
    seen = rows(mask)
    for a, b in zip(ours.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(a[seen], b[seen], atol=1e-5, rtol=1e-4)
        assert not a[~seen].any()
        assert not a.masked_select(mask[:, None, None, :] == 0).any()
    torch.testing.assert_close(ours.loss, expected.loss, atol=1e-5, rtol=1e-4)
    if mode == "no-gradients":
        return
    for out in (expected, ours):
        (out.loss + sum(a[seen].square().sum() for a in out.attentions)).backward()
    for (name, a), b in zip(model.named_parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("grad", [False, True], ids=["no-gradients", "gradients"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_69_weights_under_dropout(implementation, grad):
    """They are dropped, as in stock eager; rows of pads stay 0."""
    model = patch(gpt2(implementation=implementation, attn_pdrop=0.5)).train()
    with torch.set_grad_enabled(grad):
        out = model(IDS, attention_mask=LEFT, output_attentions=True)
    assert set(paths(model).values()) == {"textbook"}
    for weights in out.attentions:
        assert not weights[~rows(LEFT)].any()
        assert not weights.masked_select(LEFT[:, None, None, :] == 0).any()
        assert not weights.triu(1).any()
        assert (weights[rows(LEFT)] == 0).any() and weights.max() > 1.0
