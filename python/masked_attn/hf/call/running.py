"""Runs stock ``forward`` after a plan: with a stand-in for masks and cache, perhaps without pads.

Without pads the layers run on ``[1, kept tokens, embed]``; what they return gets its pads back, as
zeros, so callers see the shapes of the padded batch. Pads whose result is read are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from ..caches.stand_in import stand_in_for
from ..caches.static import self_attention_cache
from ..families.family import ModelFamily
from .cache_argument import THEIRS
from .forward_call import ForwardCall
from .packing import Packing
from .plan import Plan, runs_layers_again
from .positions import stock_positions

__all__ = ["cache_of_forward", "run_planned"]


def cache_of_forward(family: ModelFamily, model: Any, call: ForwardCall) -> Cache | None:
    """The cache of a forward: the caller's, or what stock code would make for it."""
    cache: Cache | None = call.cache
    config = model.config
    if not family.causal or not call.option("use_cache", config):
        return cache
    if cache is None:
        if runs_layers_again(model):
            return None
        cache = DynamicCache(config=config)
    if getattr(config, "add_cross_attention", False) and not isinstance(cache, EncoderDecoderCache):
        cache = EncoderDecoderCache(cache, DynamicCache(config=config))
    return cache


def run_planned(
    forward: Callable[..., Any], family: ModelFamily, model: Any, call: ForwardCall, plan: Plan
) -> Any:
    """What ``forward`` returns for ``call``, zeros at pads that were left out.

    Args:
        forward: of the model, by our names.
        family: of the model.
        model: the backbone.
        call: the forward.
        plan: of it.
    """
    # A 4-D mask is passed on untouched, so no layer and no mask function expands anything.
    nothing = torch.empty(0, 0, 0, 0)
    arguments = {**call.arguments, "attention_mask": nothing, "masked_attn_plan": plan}
    if plan.encoder is not None:
        arguments["encoder_attention_mask"] = nothing
    if plan.cache is not None:
        arguments["past_key_values"] = stand_in_for(plan.cache)
    if family.counts_mask and call.positions is None:  # which is hidden from it
        cache = self_attention_cache(call.cache)
        filled = 0 if cache is None else cache.get_seq_length()
        arguments["position_ids"] = stock_positions(family, model, call, filled)
    if plan.packing is None and plan.cache is None:
        return forward(**arguments)
    if plan.packing is not None:
        arguments.update(_packed(family, model, call, plan.packing))
    returns_dict = call.arguments.get("return_dict")
    if returns_dict is None:
        returns_dict = getattr(model.config, "return_dict", None)
    out = forward(**{**arguments, "return_dict": True})
    if out.get(THEIRS) is not None:
        out[THEIRS] = plan.cache
    if plan.packing is not None:
        _unpack(out, plan.packing, call.shape)
        _unpack_router(out, plan.packing, family)
        _pool(out, family, model)
    return out if returns_dict in (True, None) else out.to_tuple()


def _packed(
    family: ModelFamily, model: Any, call: ForwardCall, packing: Packing
) -> dict[str, Tensor]:
    """The arguments that have a value for each token, without pads."""
    packed = {"position_ids": _pack_positions(family, model, call, packing)}
    for name in ("input_ids", "token_type_ids"):
        if call.arguments.get(name) is not None:
            packed[name] = packing.pack(call.arguments[name].reshape(-1, packing.tokens))
    if call.embeds is not None:
        packed["inputs_embeds"] = packing.pack(call.embeds)
    return packed


def _pack_positions(family: ModelFamily, model: Any, call: ForwardCall, packing: Packing) -> Tensor:
    positions = call.positions
    if positions is None:
        positions = stock_positions(family, model, call, packing.filled)
    # Stock code adds their embeddings to those of the tokens: what broadcasts there does so here.
    return packing.pack(positions if positions.ndim < 3 else positions.flatten(0, -2))


def _unpack(out: Any, packing: Packing, shape: tuple[int, ...]) -> None:
    """Give all states their pads back; as in stock code only the last has the shape of the ids."""
    last = out.last_hidden_state
    whole = packing.on(last.device).unpack(last).view(*shape, last.shape[-1])
    out["last_hidden_state"] = whole
    if out.get("hidden_states") is not None:
        out["hidden_states"] = tuple(
            whole if state is last else packing.on(state.device).unpack(state)
            for state in out["hidden_states"]
        )


def _unpack_router(out: Any, packing: Packing, family: ModelFamily) -> None:
    """Choices of experts, ``[kept tokens, experts]`` of each layer, become ``[slots, experts]``."""
    logits = out.get(family.router) if family.router is not None else None
    if logits is not None:
        out[family.router] = tuple(
            packing.on(chosen.device).unpack(chosen[None]).flatten(0, 1) for chosen in logits
        )


def _pool(out: Any, family: ModelFamily, model: Any) -> None:
    """Poolers look at the first slot of a row, which packed states do not have."""
    pooler = getattr(model, family.pooler) if family.pooler is not None else None
    if pooler is not None and out.get("pooler_output") is not None:
        out["pooler_output"] = pooler(out["last_hidden_state"])
