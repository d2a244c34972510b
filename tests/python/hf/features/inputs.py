"""What a model can be given: masks, embeddings, types, positions, states of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from hf.features.families import GPT2, NOT_PLAIN
from hf.features.feature import (
    CACHED,
    IDS,
    MASK,
    MASKED,
    PACKED,
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
# The first sequence is longer than the windows of layers.
JUMPS = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2]])
# Some keys are later than their query; each query sees itself.
DENSE = (torch.rand(3, 1, TOKENS, TOKENS, generator=SEED) < 0.5) | torch.eye(TOKENS).bool()
DENSES = (DENSE, torch.ones_like(DENSE).tril())
BIAS = torch.randn(3, 8, TOKENS, TOKENS, generator=SEED).masked_fill(~DENSE, -torch.inf)
STATES = torch.randn(3, 6, 32, generator=SEED)
ENCODER_MASK = torch.arange(6) < torch.tensor([[2], [6], [1]])


def unpadded(note: str, **inputs: Any) -> Feature:
    """One forward of a batch without pads: every position counts."""

    @torch.no_grad()
    def run(model: Any) -> Any:
        return model(input_ids=IDS, **inputs).logits

    return Feature(run, (MASKED,), note)


@torch.no_grad()
def dense(model: Any) -> Any:
    """Any mask, and one that a 2-D mask could say: windows of layers do not count beside either."""
    return [model(input_ids=IDS, attention_mask=mask).logits for mask in DENSES]


@torch.no_grad()
def dense_added(model: Any) -> Any:
    """The same for eager attention, which adds what it is given."""
    least = torch.finfo(torch.float32).min
    masks = (torch.zeros(mask.shape).masked_fill(~mask.bool(), least) for mask in DENSES)
    return [model(input_ids=IDS, attention_mask=mask).logits for mask in masks]


@torch.no_grad()
def dense_and_placed(model: Any) -> Any:
    places = {"input_ids": IDS, "position_ids": POSITIONS}
    return [model(**places, attention_mask=mask).logits for mask in DENSES]


@torch.no_grad()
def biased_and_placed(model: Any) -> Any:
    bias = BIAS[:, : model.config.num_attention_heads]
    return model(input_ids=IDS, position_ids=POSITIONS, attention_mask=bias).logits


@torch.no_grad()
def biased(model: Any) -> Any:
    """Another bias for each head."""
    bias = BIAS[:, : model.config.num_attention_heads]
    return model(input_ids=IDS, attention_mask=bias).logits


@torch.no_grad()
def embedded(model: Any) -> Any:
    embeds = model.get_input_embeddings()(IDS) + EMBEDS
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
    logits = forward(model, **states)
    told = report(model)
    assert all(layer["cross"] for layer in told["layers"]) or not told["patched"]
    return [tokens, logits]


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


def right_padded(model: Any) -> Any:
    """No pad that is read sees nothing in its window: what it gets is open in eager attention."""
    return generate(model, *prompts([7, 9, 8], side="right"))


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


INPUTS = {
    "no mask": generating(IDS, None),
    "left padding": generating(note="pads are dropped before the embedding"),
    "prompts padded on either side": Feature(
        packed,
        paths=(PACKED, MASKED),
        note="a bare forward runs without the pads that nobody reads, whatever the mask",
    ),
    "right padding": generating(
        *prompts([5, 9, 3], side="right"),
        paths=(CACHED,),
        note="goes on after the pads, as stock does",
    ).but("Gemma 2", run=right_padded),
    "masks with holes": generating(mask=HOLES, paths=(CACHED,)),
    "4-D boolean mask": Feature(
        dense,
        paths=(MASKED,),
        note=(
            "says all that is visible; no causal mask and no window is added. One that says what "
            "a 2-D mask could say, as those that `generate` makes for a `StaticCache`, counts as "
            "that one, on a CPU; but no pad is left out, for nobody says which queries are "
            "read"
        ),
    )
    .but("OPT", run=dense_and_placed, note="with `position_ids`")
    .but(*NOT_PLAIN, truth=dense_added),
    "4-D float mask": Feature(
        biased,
        paths=(MASKED,),
        note=(
            "added to the scores, if it is not such a mask; then, for several queries, the "
            "cache's own `update` runs"
        ),
    ).but("OPT", run=biased_and_placed, note="with `position_ids`"),
    "`inputs_embeds`": Feature(embedded),
    "`token_type_ids`": Feature(typed, families=GPT2),
    "own `position_ids`": Feature(placed),
    "positions that jump": unpadded(
        position_ids=JUMPS,
        use_cache=False,
        note="without mask and cache they mean several sequences in a row",
    ).but("OPT", "gpt-oss", note="there they mean nothing"),
    "cross attention with encoder padding": Feature(
        crossing,
        truth=crossing_row_by_row,
        builds=[
            with_config(add_cross_attention=True),
            with_config(add_cross_attention=True, implementation="eager"),
        ],
        paths=(MASKED,),
        note="right also where transformers loses the mask (before 5.16)",
        families=GPT2,
    ),
}
