"""What a model can be given: masks, embeddings, types, positions, states of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from hf.features.feature import (
    IDS,
    MASK,
    REAL,
    Feature,
    forward,
    generating,
    with_config,
)
from hf.models import VOCAB, generate, positions_of, prompts

from masked_attn import report

TOKENS = IDS.shape[1]
HOLES = MASK.clone()
HOLES[1, 3:5] = 0
HOLES[0, 6] = 0
SEED = torch.Generator().manual_seed(3)
EMBEDS = torch.randn(3, TOKENS, 32, generator=SEED)
TYPES = torch.randint(0, VOCAB, (3, TOKENS), generator=SEED)
POSITIONS = torch.randint(0, 64, (3, TOKENS), generator=SEED)
JUMPS = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 1]])
# Some keys are later than their query; each query sees itself.
DENSE = (torch.rand(3, 1, TOKENS, TOKENS, generator=SEED) < 0.5) | torch.eye(TOKENS).bool()
BIAS = torch.randn(3, 2, TOKENS, TOKENS, generator=SEED).masked_fill(~DENSE, -torch.inf)
STATES = torch.randn(3, 6, 32, generator=SEED)
ENCODER_MASK = torch.arange(6) < torch.tensor([[2], [6], [1]])


def unpadded(**inputs: Any) -> Feature:
    """One forward of a batch without pads: every position counts."""

    @torch.no_grad()
    def run(model: Any) -> Any:
        return model(input_ids=IDS, **inputs).logits

    return Feature(run)


@torch.no_grad()
def embedded(model: Any) -> Any:
    embeds = model.transformer.wte(IDS) + EMBEDS
    settings = {"attention_mask": MASK, "max_new_tokens": 8, "do_sample": False}
    tokens = model.generate(inputs_embeds=embeds, **settings)
    return [tokens, forward(model, input_ids=None, inputs_embeds=embeds)]


def typed(model: Any) -> Any:
    types = {"token_type_ids": TYPES}
    return [generate(model, IDS, MASK, 8, **types), forward(model, **types)]


def placed(model: Any) -> Any:
    places = {"position_ids": POSITIONS}
    return [generate(model, IDS, MASK, 8, **places), forward(model, **places)]


def crossing(model: Any) -> Any:
    states = {"encoder_hidden_states": STATES, "encoder_attention_mask": ENCODER_MASK.long()}
    tokens = generate(model, IDS, MASK, 8, **states).sequences[:, TOKENS:]
    return [tokens, forward(model, **states)]


@torch.no_grad()
def crossing_row_by_row(model: Any) -> Any:
    """Without any padding: some versions of transformers lose the encoder's mask."""
    tokens, logits = [], []
    for row in range(3):
        ids = IDS[row, REAL[row]][None]
        states = {"encoder_hidden_states": STATES[row : row + 1, ENCODER_MASK[row]]}
        tokens.append(generate(model, ids, None, 8, **states).sequences[:, ids.shape[1] :])
        logits.append(model(ids, **states).logits[0])
    return [torch.cat(tokens), torch.cat(logits)]


@torch.no_grad()
def packed(model: Any) -> Any:
    """The logits of real tokens; a patched model ran on those only."""
    found = []
    for ids, mask in (prompts([5, 9, 3]), prompts([5, 9, 3], side="right"), (IDS, HOLES)):
        positions = positions_of(mask)
        out = model(ids, attention_mask=mask, position_ids=positions)
        found.append(out.logits[mask.bool()])
        assert "padding_free" not in (facts := report(model)) or facts["padding_free"]
    return found


INPUT = {
    "no-mask": generating(IDS, None),
    "left-padding": generating(),
    "prompts-padded-on-either-side": Feature(packed),
    "right-padding": generating(*prompts([5, 9, 3], side="right")),
    "masks-with-holes": generating(mask=HOLES),
    "4-d-boolean-mask": unpadded(attention_mask=DENSE),
    "4-d-float-mask": unpadded(attention_mask=BIAS),
    "inputs-embeds": Feature(embedded),
    "token-type-ids": Feature(typed),
    "own-position-ids": Feature(placed),
    "positions-that-jump": unpadded(position_ids=JUMPS, use_cache=False),
    "cross-attention-with-encoder-padding": Feature(
        crossing, truth=crossing_row_by_row, builds=[with_config(add_cross_attention=True)]
    ),
}
