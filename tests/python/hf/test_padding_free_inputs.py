"""What a packed prompt takes and gives back has the shapes of stock code, whatever its inputs."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.heads import CHOICES
from hf.models import gpt2, positions_of, prompts
from torch._subclasses import FakeTensorMode
from transformers import GPT2DoubleHeadsModel, GPT2Model

from masked_attn import report
from masked_attn.hf import patch

pytestmark = pytest.mark.integration

IDS, LEFT = prompts([5, 9, 3])
SQUARE_IDS, SQUARE = prompts([3, 1, 2])  # as many tokens as rows
POSITIONS = {
    "one-row": (torch.arange(9)[None] + 3, IDS, LEFT),
    "no-rows": (torch.arange(9) + 3, IDS, LEFT),
    "int32": (positions_of(LEFT).int(), IDS, LEFT),
    "one-for-each-row": (torch.tensor([[1], [5], [9]]), IDS, LEFT),
    "one-for-each-row-of-a-square": (torch.tensor([[1], [5], [9]]), SQUARE_IDS, SQUARE),
    "one-for-all": (torch.tensor([[4]]), IDS, LEFT),
    "a-number": (torch.tensor(4), IDS, LEFT),
}


def close(ours, expected, real):
    real = real.bool()
    torch.testing.assert_close(ours[real], expected[real], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_broadcast_as_in_stock_code(name):
    positions, ids, mask = POSITIONS[name]
    model = patch(gpt2())
    inputs = {"attention_mask": mask, "position_ids": positions}
    with torch.no_grad():
        close(model(ids, **inputs).logits, gpt2()(ids, **inputs).logits, mask)
    assert report(model)["padding_free"]


def test_hidden_states_of_choices_have_the_shapes_of_stock():
    states = []
    for model in (gpt2(model_class=GPT2DoubleHeadsModel), None):
        model = model or patch(gpt2(model_class=GPT2DoubleHeadsModel))
        with torch.no_grad():
            states.append(model(**CHOICES, output_hidden_states=True).hidden_states)
    assert report(model)["padding_free"]
    real = CHOICES["attention_mask"].bool()
    for ours, expected in zip(states[1], states[0], strict=True):
        assert ours.shape == expected.shape
        close(ours, expected, real.reshape(expected.shape[:-1]))


def test_one_prompt_without_a_batch():
    """Of the states stock code gives only the last the shape of the ids."""
    mask = torch.tensor([1, 1, 0, 0, 1, 1, 0, 1, 1])
    results = []
    for model in (gpt2(model_class=GPT2Model), patch(gpt2(model_class=GPT2Model))):
        with torch.no_grad():
            inputs = {"attention_mask": mask, "position_ids": positions_of(mask[None])}
            results.append(model(IDS[1], **inputs, output_hidden_states=True))
    assert report(model)["padding_free"]
    close(results[1].last_hidden_state, results[0].last_hidden_state, mask)
    shapes = [[state.shape for state in result.hidden_states] for result in results]
    assert shapes[0] == shapes[1]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*jit.trace:DeprecationWarning")
def test_a_trace_serves_other_masks():
    class Logits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, ids, mask):
            return self.model(ids, attention_mask=mask, use_cache=False, return_dict=False)[0]

    other = LEFT.roll(1, 0)
    with torch.no_grad():
        trace = torch.jit.trace(Logits(patch(gpt2())), (IDS, LEFT), check_trace=False)
        expected = gpt2()(IDS, attention_mask=other, position_ids=positions_of(other)).logits
        close(trace(IDS, other), expected, other)


@pytest.mark.filterwarnings("ignore:masked_attn. stock attention runs")
def test_gradients_of_each_row_by_vmap():
    """Under ``vmap`` a mask has no values that can be read."""
    results, stock = [], gpt2(implementation="eager")
    for model in (stock, patch(gpt2(implementation="eager"))):

        def loss(parameters, ids, mask, model=model):
            # Ours finds the positions by itself.
            inputs = {"attention_mask": mask[None], "use_cache": False}
            if model is stock:
                inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[None]
            out = torch.func.functional_call(model, parameters, (ids[None],), inputs)
            return (out.logits[0] * mask[:, None]).square().sum()

        gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        results.append(gradient(dict(model.named_parameters()), IDS, LEFT))
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.filterwarnings("ignore:masked_attn. stock attention runs")
@pytest.mark.parametrize("gradients", [True, False], ids=["gradients", "no-gradients"])
def test_shapes_can_be_asked_for_without_values(gradients):
    model = patch(gpt2())
    with FakeTensorMode(allow_non_fake_inputs=True), torch.set_grad_enabled(gradients):
        ids = torch.ones(3, 9, dtype=torch.long)
        assert model(ids, attention_mask=torch.ones_like(ids)).logits.shape == (3, 9, 101)
