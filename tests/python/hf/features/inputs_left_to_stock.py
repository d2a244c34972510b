"""Inputs that the code of transformers runs, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hf.features.families import GPT2, OPT
from hf.features.feature import IDS, MASK, forward, stock, with_config
from hf.features.inputs import DENSE, STATES


def refused(**inputs: Any) -> Callable[[Any], Any]:
    """The class of the error that a call ends with, as a tensor of letters."""

    def run(model: Any) -> Any:
        try:
            with torch.no_grad():
                model(**inputs)
        except Exception as error:
            return torch.tensor(list(type(error).__name__.encode()))
        raise AssertionError("there is no error")

    return run


INPUTS_LEFT_TO_STOCK = {
    "2-D mask of another width": stock(
        "a mask [3, 12] for 3 rows of 9 keys",
        lambda model: forward(model, attention_mask=torch.nn.functional.pad(MASK, (0, 3))),
    ),
    "4-D mask of another width": stock(
        "a 4-D mask [3, 1, 9, 1] of torch.bool, for 9 keys",
        lambda model: forward(model, attention_mask=torch.ones(3, 1, 9, 1).bool()),
        note="also one of integers",
    ),
    "4-D mask without `position_ids`": stock(
        "its positions are counted from a mask of two dimensions",
        refused(input_ids=IDS, attention_mask=DENSE),
        note="its error",
        families=OPT,
    ),
    "encoder states of one row": stock(
        "1 rows of encoder states for 3 rows",
        lambda model: forward(model, encoder_hidden_states=STATES[:1]),
        builds=[with_config(add_cross_attention=True)],
        note="for a batch of several",
        families=GPT2,
    ),
    "encoder mask of another shape": stock(
        "encoder_attention_mask is not a [3, 6] tensor",
        lambda model: forward(
            model,
            encoder_hidden_states=STATES,
            encoder_attention_mask=torch.ones(3, 1, 9, 6).bool(),
        ),
        builds=[with_config(add_cross_attention=True)],
        note="all but `[batch, encoder tokens]`",
        families=GPT2,
    ),
    "no `input_ids` and no `inputs_embeds`": stock(
        "either input_ids or inputs_embeds is needed",
        refused(attention_mask=MASK),
        note="its error; also for both",
    ),
    "empty input": stock("the input is empty", refused(input_ids=IDS[:, :0]), note="its error"),
    "`inputs_embeds` of 4 dimensions": stock(
        "inputs_embeds has 4 dimensions",
        refused(inputs_embeds=torch.ones(2, 3, 4, 32)),
        note="its error",
    ),
    "`position_ids` of 3 dimensions": stock(
        "position_ids has 3 dimensions",
        refused(input_ids=IDS, position_ids=torch.arange(9).expand(1, 3, 9), use_cache=False),
        note="its error",
    ),
    "dict of masks": stock(
        "attention_mask is a dict",
        refused(input_ids=IDS, attention_mask={"full_attention": MASK}),
        note="its error",
    ),
}
