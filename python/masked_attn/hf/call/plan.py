"""What all attention layers of one forward share, decided once per forward.

Whatever is not understood here is left to the stock code, with the masks that stock code makes, and
the reason is told. Nothing is read from a device, since that would wait for it, but the mask of a
prompt whose pads are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..caches.kv_cache import KVCache
from ..caches.static import is_static, self_attention_cache
from ..families.family import ModelFamily
from ..instance.neighbours import attentions_of, mask_reader
from ..levels import Levels
from ..trace.trace import Trace
from .forward_call import ForwardCall
from .packing import Packing
from .reading import packing_of
from .sequences import Sequences
from .visibility import Visibility, on_host

__all__ = ["LeftToStock", "Plan", "make_plan", "runs_layers_again"]

# They reach the attention function through the layers and change its result.
STOCK_KEYWORDS = (
    *("cache", "position_bias", "s_aux", "sliding_window", "softcap"),
    # What the layers pass on by themselves: a caller's is an error in stock code.
    *("dropout", "key", "module", "query", "scaling", "value"),
)


class LeftToStock(Exception):
    """The stock code runs this forward; the message says why.

    Args:
        reason: the message.
        pads: see ``Plan``.
    """

    def __init__(self, reason: str, pads: str | None = None) -> None:
        super().__init__(reason)
        self.pads = pads


@dataclass(frozen=True)
class Plan:
    """What all layers of one forward share.

    Attributes:
        seen: the masks, without the windows of some layers.
        textbook: attention runs step by step, and its weights are there.
        trace: what the layers ran; they write it.
        cache: the caller's, or the one that was made for this forward.
        static: the cache is a static one, and ``seen`` spans all its slots; those that are not yet
            filled are out of sight besides.
        encoder: what cross attention sees of the encoder's states, if there are any.
        sequences: several that lie back to back in the one row of the input.
        packing: the layers run without most pads, on tokens that lie as this says.
        pads: why the layers compute pads although there are some, where that can be helped.
    """

    seen: Visibility
    textbook: bool
    trace: Trace
    cache: Cache | None = None
    static: bool = False
    encoder: Visibility | None = None
    sequences: Sequences | None = None
    packing: Packing | None = None
    pads: str | None = None


def make_plan(
    family: ModelFamily,
    model: Any,
    call: ForwardCall,
    levels: Levels,
    *,
    previous: Any = None,
) -> Plan:
    """The plan for one forward.

    Args:
        family: of the model.
        model: the backbone.
        call: the arguments.
        levels: how it is patched.
        previous: the ``forward`` that was set on the model before it was patched, or None.

    Raises:
        LeftToStock: the stock code must run.
        ValueError: ``head_mask`` was given.
    """
    if call.arguments.get("head_mask") is not None:
        raise ValueError("head_mask is not supported: transformers 5 removed it")
    output_attentions = bool(call.option("output_attentions", model.config))
    _refuse_what_only_stock_knows(family, model, call)
    has_encoder = call.arguments.get("encoder_hidden_states") is not None
    # A layer that is run again has no plan but one that came as a keyword.
    weights_from_us = output_attentions and not has_encoder and family.keywords
    if runs_layers_again(model) and not weights_from_us:
        raise LeftToStock("gradient checkpointing is on")
    batch, queries = _size(family, call)
    static = is_static(self_attention_cache(call.cache))
    jumps = _positions_that_jump(family, model, call)
    sequences = _sequences(call, batch, queries, jumps)
    plan = Plan(
        seen=_visibility(family, call, batch, queries, static, None if sequences else jumps),
        textbook=output_attentions or not levels.fused,
        trace=Trace(),
        cache=call.cache,
        static=static,
        encoder=_encoder_visibility(call, batch),
        sequences=sequences,
    )
    # A mask of four dimensions says what may be seen, but not which queries somebody reads.
    dense = isinstance(call.mask, Tensor) and call.mask.ndim == 4
    if levels.padding_free and not dense and not has_encoder and not plan.textbook:
        packing, pads = packing_of(family, model, call, plan.seen, previous=previous)
        if packing is not None or pads is not None:
            plan = replace(plan, packing=packing, pads=pads)
    # Weights are ours in every mode, so that they mean the same. Without pads everything but
    # attention itself has less to do, so training stays here, too.
    if plan.packing is None and plan.sequences is None and not output_attentions:
        _refuse_training(family, model, call, plan.pads)
    return plan


def runs_layers_again(model: Any) -> bool:
    """Whether gradient checkpointing will run the layers a second time."""
    return model.training and bool(model.is_gradient_checkpointing)


def _refuse_what_only_stock_knows(family: ModelFamily, model: Any, call: ForwardCall) -> None:
    refused = family.refused(model.config)  # what is said of a config may change after the patch
    if refused is not None:
        raise LeftToStock(refused)
    implementation = model.config._attn_implementation
    if not _is_known(implementation):
        raise LeftToStock(f"attention implementation {implementation}")
    if call.cache is not None and not isinstance(call.cache, Cache):  # a paged one is not
        raise LeftToStock(f"the cache is a {type(call.cache).__name__}")
    for name in STOCK_KEYWORDS:
        if call.arguments.get(name) is not None:
            raise LeftToStock(f"{name} was given")
    if not family.keywords and torch.compiler.is_compiling():
        raise LeftToStock("its layers hand no keyword on, and a graph has no other way")
    if family.counts_mask and call.positions is None and getattr(call.mask, "ndim", 2) != 2:
        raise LeftToStock("its positions are counted from a mask of two dimensions")
    if family.causal and call.option("is_causal", model.config) is False:
        raise LeftToStock("the model is not causal")
    if not family.causal and call.arguments.get("is_causal"):
        raise LeftToStock("an encoder was made causal")
    if not family.causal and (call.cache is not None or call.arguments.get("use_cache")):
        raise LeftToStock("an encoder was given a cache")
    reader = mask_reader(family, model)
    if reader is not None:
        raise LeftToStock(reader)


def _is_known(implementation: str | None) -> bool:
    """Whether this is attention as models mean it: no paging, nothing that others registered."""
    if implementation == "sdpa":
        return ALL_ATTENTION_FUNCTIONS.get(implementation) is sdpa_attention_forward
    known = (None, "eager", "masked_attn", "flex_attention")
    return implementation in known or str(implementation).startswith("flash_attention_")


def _refuse_training(family: ModelFamily, model: Any, call: ForwardCall, pads: str | None) -> None:
    layers = family.layers_of(model)
    for layer in layers if model.training else ():
        if any(family.drops_weights(module) for module in attentions_of(family, layer).values()):
            raise LeftToStock("attention weights are dropped", pads)
    if not torch.is_grad_enabled():
        return
    inputs_learn = call.embeds is not None and call.embeds.requires_grad
    if inputs_learn or any(parameter.requires_grad for parameter in model.parameters()):
        raise LeftToStock("gradients are recorded", pads)


def _size(family: ModelFamily, call: ForwardCall) -> tuple[int, int]:
    """Rows, and tokens of each."""
    if call.inputs is None:
        raise LeftToStock("either input_ids or inputs_embeds is needed")
    if call.batch is None or call.queries is None:
        raise LeftToStock("the input is empty")
    if call.ids is None and call.inputs.ndim != 3:
        raise LeftToStock(f"inputs_embeds has {call.inputs.ndim} dimensions")
    if call.ids is not None and call.inputs.ndim != 2 and not family.folds_leading:
        raise LeftToStock(f"input_ids has {call.inputs.ndim} dimensions")
    return call.batch, call.queries


def _visibility(
    family: ModelFamily,
    call: ForwardCall,
    batch: int,
    queries: int,
    static: bool,
    jumps: Tensor | None,
) -> Visibility:
    """The masks of a forward; positions that jump count where no ``Sequences`` stand for them."""
    seen, slots = _cache_sizes(self_attention_cache(call.cache), queries, static)
    # What a static cache holds so far is for its layers to know: here every slot counts.
    keys = slots if static else seen + queries
    mask = call.mask
    if mask is None:
        if jumps is None:
            return Visibility(keys=keys, causal=family.causal)
        return Visibility(keys=keys, attn_mask=_parted(jumps, batch))
    if not isinstance(mask, Tensor):
        raise LeftToStock(f"attention_mask is a {type(mask).__name__}")
    if mask.ndim == 4:
        usable = mask.dtype == torch.bool or mask.is_floating_point()
        if usable and mask.shape[3] == slots:
            filled = seen if family.causal else None
            visibility = Visibility.of_4d(mask, batch, slots, filled)
            # Causality ends at the last slot that is filled; a static cache counts from its own.
            return visibility.up_to(keys) if visibility.causal and not static else visibility
        raise LeftToStock(f"a 4-D mask {list(mask.shape)} of {mask.dtype}, for {slots} keys")
    assert call.inputs is not None
    if mask.ndim == 2 and mask.shape[0] != batch and not family.folds_leading:
        raise LeftToStock(f"a mask {list(mask.shape)} for {batch} rows of {keys} keys")
    key_mask = _key_mask(mask, batch, keys, static, call.inputs.device)
    return Visibility(keys=keys, key_mask=key_mask, causal=family.causal)


def _encoder_visibility(call: ForwardCall, batch: int) -> Visibility | None:
    states: Tensor | None = call.arguments.get("encoder_hidden_states")
    # A compiled graph runs the stock cross attention: it can't hold the plan of a context variable.
    if states is None or torch.compiler.is_compiling():
        return None
    keys = states.shape[1]
    if states.shape[0] != batch:
        raise LeftToStock(f"{states.shape[0]} rows of encoder states for {batch} rows")
    mask = call.arguments.get("encoder_attention_mask")
    if mask is None:
        return Visibility(keys=keys)
    if not isinstance(mask, Tensor) or mask.shape != (batch, keys):
        raise LeftToStock(f"encoder_attention_mask is not a [{batch}, {keys}] tensor")
    return Visibility(keys=keys, key_mask=mask.to(device=states.device, dtype=torch.bool))


def _key_mask(mask: Tensor, batch: int, keys: int, static: bool, device: torch.device) -> Tensor:
    width = mask.numel() // batch  # not divmod: sizes are tensors in a trace
    whole = width * batch == mask.numel()
    if not whole or not (width == keys or (static and width < keys)):
        raise LeftToStock(f"a mask {list(mask.shape)} for {batch} rows of {keys} keys")
    key_mask = mask.reshape(batch, width).to(device=device, dtype=torch.bool)
    return torch.nn.functional.pad(key_mask, (0, keys - width)) if width < keys else key_mask


def _cache_sizes(cache: Any, queries: int, static: bool) -> tuple[int, int]:
    """Tokens seen so far (0 if only a device knows) and slots that the cache hands over."""
    if cache is None:
        return 0, queries
    seen = cache.get_seq_length()
    if isinstance(cache, KVCache):
        return seen, seen + queries
    if isinstance(seen, Tensor):
        readable = on_host(seen)
        if not static and not readable:
            raise LeftToStock("the cache counts its tokens on a device")
        seen = int(seen) if readable else 0
    slots = seen + queries
    for layer in _one_of_each_kind(cache):
        handed, offset = cache.get_mask_sizes(queries, layer)
        # A growing layer with a window hands over the last keys alone.
        grows = not isinstance(cache.layers[layer], StaticLayer) if cache.layers else True
        last_keys = grows and offset + handed == seen + queries
        if not last_keys and (offset != 0 or handed < seen + queries):
            raise LeftToStock(f"the cache hands over {handed} slots from {offset} on, after {seen}")
        if offset == 0:
            slots = max(slots, handed)
    return seen, slots


def _one_of_each_kind(cache: Cache) -> list[int]:
    """Layers whose sizes stand for those of all others."""
    kinds = {type(layer): number for number, layer in reversed(list(enumerate(cache.layers)))}
    return sorted(kinds.values()) or [0]


def _sequences(
    call: ForwardCall, batch: int, queries: int, jumps: Tensor | None
) -> Sequences | None:
    """Several sequences in one row: by keywords, or by positions that jump.

    Raises:
        ValueError: keywords beside a mask, or beside a cache that holds tokens.
    """
    sequences = Sequences.of_keywords(call.arguments, batch, queries)
    if sequences is None:
        if jumps is None or batch != 1 or not on_host(jumps):
            return None
        return Sequences.of_positions(jumps.view(1, -1))
    if call.mask is not None:
        raise ValueError("cu_seq_lens_q was given beside attention_mask: only one can count")
    if call.cache is not None and call.cache.get_seq_length():
        raise ValueError("cu_seq_lens_q was given beside a cache that holds tokens")
    return sequences


def _positions_that_jump(family: ModelFamily, model: Any, call: ForwardCall) -> Tensor | None:
    """Positions that, without mask and cache, mean several sequences in one row.

    None where the host knows that each row is one sequence.
    """
    positions = call.positions
    if positions is None or not family.causal or call.mask is not None or call.cache is not None:
        return None
    # With use_cache a new cache is there before stock code looks, and then it does not look.
    if call.option("use_cache", model.config):
        return None
    if positions.ndim > 2:
        raise LeftToStock(f"position_ids has {positions.ndim} dimensions")
    if not family.parts_jumps:
        return None
    if on_host(positions) and not bool((positions.diff(dim=-1) != 1).any()):
        return None
    return positions


def _parted(positions: Tensor, batch: int) -> Tensor:
    """Bool ``[batch, 1, queries, queries]``, True for earlier keys of the same sequence."""
    jumps = positions.diff(dim=-1) != 1
    number = torch.nn.functional.pad(jumps.cumsum(-1), (1, 0)).expand(batch, -1)
    same = number[:, None, :, None] == number[:, None, None, :]
    return same.tril()
