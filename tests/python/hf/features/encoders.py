"""Encoders: what they can be given and asked for, and what the code of transformers runs of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from hf.features.families import BERT, ENCODERS, LIKE_BERT, MODERNBERT, Families
from hf.features.feature import (
    MASKED,
    PACKED,
    TEXTBOOK,
    Feature,
    change_config,
    layers_of,
    stock,
    with_config,
)
from hf.features.hooks import HOOKS, hooked, louder
from hf.features.inputs import BIAS, DENSE
from hf.features.inputs_left_to_stock import refused
from hf.features.keywords import with_registered_attention
from hf.features.training import WITH_PADS, checkpointing, frozen
from hf.models import prompts

WORDS, RIGHT = prompts([5, 9, 3], side="right")
WORDS = WORDS.clamp(min=5)  # below are ids that mean something, which is not the same everywhere
REAL = RIGHT.bool()
LEFT = RIGHT.flip(1)
HOLES = RIGHT.clone()
HOLES[1, 3:5] = 0
EMPTY = RIGHT.clone()
EMPTY[2] = 0
SEED = torch.Generator().manual_seed(3)
TYPES = torch.randint(0, 2, WORDS.shape, generator=SEED)
POSITIONS = torch.randint(0, 64, WORDS.shape, generator=SEED)
TYPED = Families("those like BERT", LIKE_BERT)


def encoded(
    mask: torch.Tensor = RIGHT, *, tell_positions: bool = False, **inputs: Any
) -> Callable[[Any], torch.Tensor]:
    """Logits of the real tokens of a batch that is padded so."""

    @torch.no_grad()
    def run(model: Any) -> torch.Tensor:
        given = {**asked(model, mask, tell_positions), **inputs}
        logits: torch.Tensor = model(**given).logits
        assert torch.isfinite(logits).all()
        return logits[mask.bool()]

    return run


def asked(model: Any, mask: torch.Tensor = RIGHT, tell_positions: bool = False) -> dict[str, Any]:
    """Ids, mask, and where stock code would count pads the positions of real tokens."""
    config = model.config
    ids = WORDS.masked_fill(mask == 0, config.pad_token_id)
    given = {"input_ids": ids, "attention_mask": mask}
    if tell_positions:
        count = mask.cumsum(-1)
        counts_ids = "roberta" in config.model_type
        behind = config.pad_token_id + count * mask
        given["position_ids"] = behind if counts_ids else (count - 1).clamp(min=0)
    return given


def padded(mask: torch.Tensor, paths: tuple[str, ...], note: str = "") -> Feature:
    truth = encoded(mask, tell_positions=True)
    return Feature(encoded(mask), paths, note, ENCODERS, truth=truth)


def every_slot(**inputs: Any) -> Callable[[Any], Any]:
    """Without a 2-D mask every position counts."""

    @torch.no_grad()
    def run(model: Any) -> Any:
        return model(input_ids=WORDS, **inputs).logits

    return run


@torch.no_grad()
def biased(model: Any) -> Any:
    return model(input_ids=WORDS, attention_mask=BIAS[:, :4]).logits


@torch.no_grad()
def embedded(model: Any) -> Any:
    given = asked(model)
    embeds = model.get_input_embeddings()(given.pop("input_ids")) + 0.1
    return model(inputs_embeds=embeds, **given).logits[REAL]


@torch.no_grad()
def states(model: Any) -> Any:
    found = model(**asked(model), output_hidden_states=True).hidden_states
    assert len(found) == model.config.num_hidden_layers + 1
    return [layer[REAL] for layer in found]


@torch.no_grad()
def weights(model: Any) -> Any:
    out = model(**asked(model), output_attentions=True)
    assert len(out.attentions) == model.config.num_hidden_layers
    pairs = (REAL[:, :, None] & REAL[:, None, :])[:, None].expand(-1, 4, -1, -1)
    return [out.logits[REAL], *(layer[pairs] for layer in out.attentions)]


@torch.no_grad()
def classified(model: Any) -> Any:
    return model(**asked(model)).logits


def compiled(model: Any) -> Any:
    torch._dynamo.reset()
    return encoded()(torch.compile(model, backend="eager", fullgraph=True))


def in_dtype(dtype: torch.dtype) -> Callable[..., Any]:
    return lambda make, **more: make(**more).to(dtype)


def learning(model: Any) -> Any:
    """Gradients of all parameters that have one."""
    model.zero_grad()
    # Pads are not read.
    model(**asked(model)).logits[REAL].square().sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def learn_inside(model: Any) -> None:
    """Something behind the embeddings that the model does not count among its parameters."""
    model.learned = [torch.zeros(1, requires_grad=True)]
    add = lambda module, args, out: out + model.learned[0]  # noqa: E731
    model.base_model.embeddings.register_forward_hook(add)


def learned_inside(model: Any) -> Any:
    model.learned[0].grad = None
    model(**asked(model)).logits[REAL].square().sum().backward()
    return model.learned[0].grad


def dropping(make: Any, **more: Any) -> Any:
    """In training mode; nothing but weights of attention is dropped."""
    model = make(**more).train()
    for layer in layers_of(model):
        for module in layer.modules():
            if type(module).__name__.endswith(("SelfAttention", "ModernBertAttention")):
                drop = getattr(module, "dropout", None)
                if isinstance(drop, torch.nn.Dropout):
                    drop.p = 0.5
                module.attention_dropout = 0.5
    return model


def left(why: str, run: Callable[[Any], Any] | None = None, **more: Any) -> Feature:
    """A feature of encoders that runs stock code."""
    return stock(why, run or encoded(), **{"families": ENCODERS, **more})


ENCODER_INPUTS = {
    "right padding": padded(
        RIGHT, (PACKED,), "pads are dropped before the embedding, and their states are 0"
    ),
    "left padding": padded(
        LEFT, (MASKED,), "the first slot of a row is kept, since poolers read it"
    ),
    "masks with holes": padded(HOLES, (PACKED,)).but(
        "ModernBERT", paths=(PACKED, MASKED), note="windows count slots: there the holes stay"
    ),
    "a row without a token": replace(
        padded(EMPTY, (MASKED,), "it is finite, and no other row notices"),
    ),
    "no mask": Feature(every_slot(), (MASKED,), families=ENCODERS),
    "4-D boolean mask": Feature(
        every_slot(attention_mask=DENSE),
        (MASKED,),
        "no pad is dropped, and no window is added",
        ENCODERS,
    ),
    "4-D mask of keys": Feature(
        every_slot(attention_mask=REAL[:, None, None].expand(-1, 1, 9, -1)),
        (MASKED,),
        families=ENCODERS,
    ),
    "4-D float mask": Feature(biased, (MASKED,), families=ENCODERS),
    "`token_type_ids`": Feature(encoded(token_type_ids=TYPES), (PACKED,), families=TYPED),
    "own `position_ids`": Feature(encoded(position_ids=POSITIONS), (PACKED,), families=ENCODERS),
    "`inputs_embeds`": Feature(embedded, (PACKED,), families=ENCODERS),
    "dict of masks": left(
        "attention_mask is a dict",
        refused(input_ids=WORDS, attention_mask={"full_attention": REAL}),
        note="its error",
    ).but(
        "ModernBERT",
        run=every_slot(attention_mask={"full_attention": DENSE, "sliding_attention": DENSE}),
        note="a mask for each kind of layer",
    ),
    "`input_ids` of 3 dimensions": left(
        "input_ids has 3 dimensions", refused(input_ids=WORDS[None]), note="its error"
    ),
}
ENCODER_OUTPUTS = {
    "heads for sequences": Feature(
        classified,
        (PACKED,),
        "they read the first slot, or a mean",
        ENCODERS,
        builds=[with_config(head="ForSequenceClassification")],
    ),
    "`output_hidden_states`": Feature(states, (PACKED,), families=ENCODERS),
    "`output_attentions`": Feature(
        weights, (TEXTBOOK,), "real weights", ENCODERS, implementation="eager"
    ),
    "`bfloat16`": Feature(
        encoded(), (PACKED,), families=ENCODERS, builds=[in_dtype(torch.bfloat16)], tolerance=0.1
    ),
    "`torch.compile`": Feature(
        compiled, (MASKED,), "no graph breaks", BERT + MODERNBERT, only_last=True
    ),
    "`is_causal=True`": left("an encoder was made causal", encoded(is_causal=True)),
    "`use_cache=True`": left(
        "an encoder was given a cache", encoded(use_cache=True), note="also `past_key_values`"
    ),
}
ENCODER_TRAINING = {
    "recorded gradients": left("gradients are recorded", learning, levels=WITH_PADS),
    "recorded gradients, without pads": left(
        "gradients are recorded inside the layers", learning, tolerance=2e-4
    ),
    "gradients that start inside the layers": left(
        "gradients are recorded inside the layers",
        learned_inside,
        builds=[frozen],
        change=learn_inside,
        tolerance=2e-4,
    ),
    "attention dropout": left("attention weights are dropped", builds=[dropping], levels=WITH_PADS),
    "gradient checkpointing": left(
        "gradient checkpointing is on", learning, builds=[checkpointing]
    ),
}
ENCODER_HOOKS = {
    "registered attention": left(
        "attention implementation of_others", builds=[with_registered_attention]
    ),
    "pre-hook on a block": left(
        "a forward pre-hook on layer 0",
        builds=[hooked(lambda block: block.register_forward_pre_hook(louder))],
    ),
    "pre-hook around attention": left(
        "a forward pre-hook on attention of layer 0",
        builds=[hooked(lambda block: block.attention.register_forward_pre_hook(louder))],
        families=TYPED,
        note="on the module that holds queries, keys, values and their output",
    ),
    "wrapped block": replace(HOOKS["wrapped block"], run=encoded(), families=ENCODERS - MODERNBERT),
    "`is_decoder` set after `patch`": left(
        "it is a decoder (is_decoder=True)", change=change_config(is_decoder=True), families=BERT
    ),
    "`add_cross_attention` set after `patch`": left(
        "it has cross attention", change=change_config(add_cross_attention=True), families=BERT
    ),
}
ENCODER_ROWS = {**ENCODER_INPUTS, **ENCODER_OUTPUTS, **ENCODER_TRAINING, **ENCODER_HOOKS}
