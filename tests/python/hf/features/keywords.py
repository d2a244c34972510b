"""Keywords and attention of others, which the code of transformers runs."""

from __future__ import annotations

from typing import Any

import torch
from hf.features.families import GPT2, WIDTH_IS_SAID
from hf.features.feature import IDS, Feature, forward, stock, with_config
from hf.features.inputs_left_to_stock import refused
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

EAGER = [with_config(implementation="eager")]


def keyword(name: str, value: Any, **more: Any) -> Feature:
    """A keyword that only some attention functions know; eager takes them all."""
    run = lambda model: forward(model, **{name: value})  # noqa: E731
    return stock(f"{name} was given", run, builds=EAGER, implementation="eager", **more)


def passed_on(name: str, **more: Any) -> Feature:
    """A keyword that layers pass on by themselves; those of StableLM hand none on."""
    row = stock(f"{name} was given", refused(input_ids=IDS, **{name: 0.5}), **more)
    return row.but(
        "StableLM", run=lambda model: forward(model, **{name: 0.5}), note="it has no effect"
    )


def of_others(*args: Any, softcap: float | None = None, **more: Any) -> Any:
    """Attention that bends no scores."""
    return sdpa_attention_forward(*args, **more)


def with_registered_attention(make: Any, **more: Any) -> Any:
    AttentionInterface.register("of_others", of_others)
    AttentionMaskInterface.register("of_others", sdpa_mask)
    return make(**{**more, "implementation": "of_others"})


KEYWORDS = {
    "`softcap`": keyword(
        "softcap", 5.0, note="a keyword of forward that changes attention, like the next four"
    ).but("Gemma 2", run=refused(input_ids=IDS, softcap=5.0), note="its error"),
    "`s_aux`": keyword("s_aux", torch.zeros(2)).but(
        "gpt-oss", run=refused(input_ids=IDS, s_aux=torch.zeros(4)), note="its error"
    ),
    "`position_bias`": keyword("position_bias", torch.zeros(1, 2, 9, 9)),
    "`sliding_window`": keyword("sliding_window", 4).but(
        *WIDTH_IS_SAID, run=refused(input_ids=IDS, sliding_window=4), note="its error"
    ),
    "`cache` as a keyword": keyword(
        "cache",
        object(),
        note="a paged one; from transformers 5.24 on it is the ordinary cache",
        families=GPT2,
    ),
    "`dropout`": passed_on(
        "dropout",
        note="its error: the layers pass this keyword on by themselves, like the next five",
    ),
    **{f"`{name}`": passed_on(name) for name in ("key", "module", "query", "scaling", "value")},
    "registered attention": stock(
        "attention implementation of_others",
        forward,
        builds=[with_registered_attention],
        note="an `attn_implementation` of others, or another function under the name `sdpa`",
    ),
}
