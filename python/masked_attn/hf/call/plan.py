"""What all attention layers of one GPT-2 forward share, decided once per forward.

Whatever is not understood here is left to the stock code, with the masks that stock code makes, and
the reason is told. Nothing is read from a device, since that would wait for it, but the mask of a
prompt whose pads are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

from ..caches.static import is_static, self_attention_cache
from ..instance.neighbours import mask_reader
from ..levels import Levels
from .packed_pass import packing_of
from .packing import Packing
from .visibility import Visibility, on_host

__all__ = ["STOCK", "AttentionPlan", "LeftToStock", "make_plan"]

STOCK = "stock"

# They reach the attention function through the blocks and change its result.
STOCK_KEYWORDS = (
    *("cache", "position_bias", "s_aux", "sliding_window", "softcap"),
    # What the layers pass on by themselves: a caller's is an error in stock code.
    *("dropout", "key", "module", "query", "scaling", "value"),
)


class LeftToStock(Exception):
    """The stock code runs this forward; the message says why.

    Args:
        reason: the message.
        pads: see ``AttentionPlan``.
    """

    def __init__(self, reason: str, pads: str | None = None) -> None:
        super().__init__(reason)
        self.pads = pads


@dataclass
class AttentionPlan:
    """What all layers of one forward share.

    Attributes:
        seen: the masks.
        fused: False runs attention step by step (the textbook path).
        output_attentions: return the weights.
        static: the cache is a static one, and ``seen`` spans all its slots; those that are not yet
            filled are out of sight besides.
        encoder: what cross attention sees of the encoder's states, if there are any.
        states: the encoder's states, ``[batch, keys, embed]``.
        packing: the blocks run without most pads, on tokens that lie as this says.
        pads: why the blocks compute pads although there are some, where that can be helped.
        paths: number of the layer to the name of the path it took, filled by the layers.
        cross_paths: the same for cross attention.
        reasons: why a layer ran stock code all the same.
    """

    seen: Visibility
    fused: bool
    output_attentions: bool
    static: bool = False
    encoder: Visibility | None = None
    states: Tensor | None = None
    packing: Packing | None = None
    pads: str | None = None
    paths: dict[int, str] = field(default_factory=dict)
    cross_paths: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def textbook(self) -> bool:
        """Whether attention runs step by step."""
        return self.output_attentions or not self.fused

    def left_to_stock(self, layer_idx: int, reason: str) -> None:
        """Why a layer runs stock code although this plan is there."""
        self.reasons[layer_idx] = reason


def make_plan(
    model: GPT2Model,
    arguments: dict[str, Any],
    levels: Levels,
    *,
    previous: Any = None,
) -> AttentionPlan:
    """The plan for ``model.forward(**arguments)``.

    Args:
        model: the model.
        arguments: of its forward, by name.
        levels: how it is patched.
        previous: the ``forward`` that was set on the model before it was patched, or None.

    Raises:
        LeftToStock: the stock code must run.
        ValueError: ``head_mask`` was given.
    """
    if arguments.get("head_mask") is not None:
        raise ValueError("head_mask is not supported: transformers 5 removed it")
    output_attentions = bool(_option(model, arguments, "output_attentions"))
    _refuse_what_only_stock_knows(model, arguments)
    # Encoder states: a block that is run again has no plan for its cross attention.
    weights_from_us = output_attentions and arguments.get("encoder_hidden_states") is None
    if model.gradient_checkpointing and model.training and not weights_from_us:
        raise LeftToStock("gradient checkpointing is on")
    static = is_static(self_attention_cache(arguments.get("past_key_values")))
    plan = AttentionPlan(
        seen=_visibility(model, arguments, static),
        fused=levels.fused,
        output_attentions=output_attentions,
        static=static,
        encoder=_encoder_visibility(arguments),
        states=arguments.get("encoder_hidden_states"),
    )
    # A mask of four dimensions says what may be seen, but not which queries somebody reads.
    mask = arguments.get("attention_mask")
    dense = isinstance(mask, Tensor) and mask.ndim == 4
    if levels.padding_free and not dense and plan.states is None and not plan.textbook:
        plan.packing, plan.pads = packing_of(
            model,
            plan.seen,
            queries=_input_shape(arguments)[1],
            ids=arguments.get("input_ids"),
            cache=arguments.get("past_key_values"),
            previous=previous,
        )
    # Weights are ours in every mode, so that they mean the same. Without pads everything but
    # attention itself has less to do, so training stays here, too.
    if plan.packing is None and not plan.output_attentions:
        _refuse_training(model, arguments, plan.pads)
    return plan


def _option(model: GPT2Model, arguments: dict[str, Any], name: str) -> Any:
    """An argument of forward whose default is in the config."""
    given = arguments.get(name)
    return getattr(model.config, name, None) if given is None else given


def _refuse_what_only_stock_knows(model: GPT2Model, arguments: dict[str, Any]) -> None:
    implementation = model.config._attn_implementation
    if not _is_known(implementation):
        raise LeftToStock(f"attention implementation {implementation}")
    cache = arguments.get("past_key_values")
    if cache is not None and not isinstance(cache, Cache):  # a paged one is not
        raise LeftToStock(f"the cache is a {type(cache).__name__}")
    for name in STOCK_KEYWORDS:
        if arguments.get(name) is not None:
            raise LeftToStock(f"{name} was given")
    if arguments.get("is_causal", getattr(model.config, "is_causal", None)) is False:
        raise LeftToStock("the model is not causal")
    reader = mask_reader(model)
    if reader is not None:
        raise LeftToStock(reader)


def _is_known(implementation: str | None) -> bool:
    """Whether this is attention as GPT-2 means it: no paging, nothing that others registered."""
    if implementation == "sdpa":
        return ALL_ATTENTION_FUNCTIONS.get(implementation) is sdpa_attention_forward
    known = (None, "eager", "masked_attn", "flex_attention")
    return implementation in known or str(implementation).startswith("flash_attention_")


def _refuse_training(model: GPT2Model, arguments: dict[str, Any], pads: str | None) -> None:
    layers: list[Any] = [block.attn for block in model.h]
    if any(layer.training and layer.attn_dropout.p > 0.0 for layer in layers):
        raise LeftToStock("attention weights are dropped", pads)
    if not torch.is_grad_enabled():
        return
    embeds = arguments.get("inputs_embeds")
    inputs_learn = embeds is not None and embeds.requires_grad
    if inputs_learn or any(parameter.requires_grad for parameter in model.parameters()):
        raise LeftToStock("gradients are recorded", pads)


def _visibility(model: GPT2Model, arguments: dict[str, Any], static: bool) -> Visibility:
    batch, queries = _input_shape(arguments)
    seen, slots = _cache_sizes(arguments.get("past_key_values"), queries, static)
    # What a static cache holds so far is for its layers to know: here every slot counts.
    keys = slots if static else seen + queries
    mask = arguments.get("attention_mask")
    if mask is None:
        sequences = _sequences(model, arguments, batch)
        return Visibility(keys=keys, attn_mask=sequences, causal=sequences is None)
    if not isinstance(mask, Tensor):
        raise LeftToStock(f"attention_mask is a {type(mask).__name__}")
    if mask.ndim == 4:
        usable = mask.dtype == torch.bool or mask.is_floating_point()
        if usable and mask.shape[3] == slots:
            visibility = Visibility.of_4d(mask, batch, slots, seen)
            # Causality ends at the last slot that is filled; a static cache counts from its own.
            return visibility.up_to(keys) if visibility.causal and not static else visibility
        raise LeftToStock(f"a 4-D mask {list(mask.shape)} of {mask.dtype}, for {slots} keys")
    device = _inputs(arguments).device
    return Visibility(keys=keys, key_mask=_key_mask(mask, batch, keys, static, device), causal=True)


def _encoder_visibility(arguments: dict[str, Any]) -> Visibility | None:
    states: Tensor | None = arguments.get("encoder_hidden_states")
    # Compiled graphs run the stock cross attention: see cross_attention.py.
    if states is None or torch.compiler.is_compiling():
        return None
    batch, keys = _input_shape(arguments)[0], states.shape[1]
    if states.shape[0] != batch:
        raise LeftToStock(f"{states.shape[0]} rows of encoder states for {batch} rows")
    mask = arguments.get("encoder_attention_mask")
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


def _inputs(arguments: dict[str, Any]) -> Tensor:
    ids: Tensor | None = arguments.get("input_ids")
    embeds: Tensor | None = arguments.get("inputs_embeds")
    inputs = embeds if ids is None else ids
    if inputs is None or (ids is not None and embeds is not None):
        raise LeftToStock("either input_ids or inputs_embeds is needed")
    if not inputs.numel():
        raise LeftToStock("the input is empty")
    return inputs


def _input_shape(arguments: dict[str, Any]) -> tuple[int, int]:
    inputs = _inputs(arguments)
    if arguments.get("input_ids") is not None:
        return inputs.numel() // inputs.shape[-1], inputs.shape[-1]
    if inputs.ndim != 3:
        raise LeftToStock(f"inputs_embeds has {inputs.ndim} dimensions")
    return inputs.shape[0], inputs.shape[1]


def _cache_sizes(cache: Any, queries: int, static: bool) -> tuple[int, int]:
    """Tokens seen so far (0 if only a device knows) and slots that the cache hands over."""
    if cache is None:
        return 0, queries
    seen = cache.get_seq_length()
    if isinstance(seen, Tensor):
        readable = on_host(seen)
        if not static and not readable:
            raise LeftToStock("the cache counts its tokens on a device")
        seen = int(seen) if readable else 0
    slots, offset = cache.get_mask_sizes(queries, 0)
    if offset != 0 or slots < seen + queries:
        raise LeftToStock(f"the cache hands over {slots} slots from {offset} on, after {seen}")
    return seen, slots


def _sequences(model: GPT2Model, arguments: dict[str, Any], batch: int) -> Tensor | None:
    """Without mask and cache, positions that jump mean several sequences in one row.

    Returns:
        Bool ``[batch, 1, queries, queries]``, True for earlier keys of the same sequence; None
        where the host knows that each row is one sequence.
    """
    positions: Tensor | None = arguments.get("position_ids")
    # With use_cache a new cache is there before stock code looks, and then it does not look.
    no_cache = arguments.get("past_key_values") is None
    if positions is None or not no_cache or _option(model, arguments, "use_cache"):
        return None
    if positions.ndim > 2:
        raise LeftToStock(f"position_ids has {positions.ndim} dimensions")
    jumps = positions.diff(dim=-1) != 1
    if on_host(positions) and not bool(jumps.any()):
        return None
    number = torch.nn.functional.pad(jumps.cumsum(-1), (1, 0)).expand(batch, -1)
    same = number[:, None, :, None] == number[:, None, None, :]
    return same.tril()
