"""What all attention layers of one GPT-2 forward share, decided once per forward.

No plan means that the stock code runs, with the masks that the stock code makes: whatever is not
understood here must end there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

from .visibility import Visibility

__all__ = ["STOCK", "AttentionPlan", "make_plan"]

STOCK = "stock"

# They reach the attention function through the blocks and change its result: left to stock code.
STOCK_KEYWORDS = ("cache", "position_bias", "s_aux", "sliding_window", "softcap")


@dataclass
class AttentionPlan:
    """What all layers of one forward share.

    Attributes:
        seen: the masks.
        fused: False runs attention step by step (the textbook path).
        output_attentions: return the weights.
        paths: number of the layer to the name of the path it took, filled by the layers.
    """

    seen: Visibility
    fused: bool
    output_attentions: bool
    paths: dict[int, str] = field(default_factory=dict)


def make_plan(
    model: GPT2Model, arguments: dict[str, Any], fused: bool, paths: dict[int, str]
) -> AttentionPlan | None:
    """The plan for ``model.forward(**arguments)``, or None for the stock code."""
    if arguments.get("head_mask") is not None:
        raise ValueError("head_mask is not supported: transformers 5 removed it")
    output_attentions = arguments.get("output_attentions")
    if output_attentions is None:
        output_attentions = getattr(model.config, "output_attentions", False)
    if _stock_only(model, arguments):
        return None
    # Stock sdpa never returns weights, so a request for them stays here even when training.
    weights_from_stock = model.config._attn_implementation == "eager"
    if _trains(model, arguments) and (weights_from_stock or not output_attentions):
        return None
    seen = _visibility(arguments)
    if seen is None:
        return None
    return AttentionPlan(seen, fused, bool(output_attentions), paths)


def _stock_only(model: GPT2Model, arguments: dict[str, Any]) -> bool:
    is_causal = arguments.get("is_causal", getattr(model.config, "is_causal", None))
    paged = str(model.config._attn_implementation).startswith("paged|")
    checkpointing = model.gradient_checkpointing and model.training
    special = any(arguments.get(name) is not None for name in STOCK_KEYWORDS)
    return is_causal is False or paged or checkpointing or special


def _trains(model: GPT2Model, arguments: dict[str, Any]) -> bool:
    """Gradients are recorded, or attention weights are dropped."""
    layers: list[Any] = [block.attn for block in model.h]
    if any(layer.training and layer.attn_dropout.p > 0.0 for layer in layers):
        return True
    if not torch.is_grad_enabled():
        return False
    embeds = arguments.get("inputs_embeds")
    if embeds is not None and embeds.requires_grad:
        return True
    return any(parameter.requires_grad for parameter in model.parameters())


def _visibility(arguments: dict[str, Any]) -> Visibility | None:
    """The masks of this call, or None where only stock code knows what they mean."""
    shape = _input_shape(arguments)
    if shape is None:
        return None
    batch, queries = shape
    sizes = _cache_sizes(arguments.get("past_key_values"), queries)
    if sizes is None:
        return None
    seen, slots = sizes
    mask = arguments.get("attention_mask")
    if mask is None:
        return None if _packed(arguments) else Visibility(keys=seen + queries, causal=True)
    if not isinstance(mask, Tensor):
        return None
    if mask.ndim == 4:
        usable = mask.dtype == torch.bool or mask.is_floating_point()
        return Visibility.of_4d(mask, batch, slots) if usable and mask.shape[3] == slots else None
    if mask.numel() != batch * (seen + queries):
        return None
    inputs: Tensor = arguments[
        "input_ids" if arguments.get("inputs_embeds") is None else "inputs_embeds"
    ]
    key_mask = mask.reshape(batch, -1).to(device=inputs.device, dtype=torch.bool)
    return Visibility(keys=seen + queries, key_mask=key_mask, causal=True)


def _input_shape(arguments: dict[str, Any]) -> tuple[int, int] | None:
    ids, embeds = arguments.get("input_ids"), arguments.get("inputs_embeds")
    if (ids is None) == (embeds is None):
        return None
    if ids is not None:
        return (ids.numel() // ids.shape[-1], ids.shape[-1]) if ids.numel() else None
    assert embeds is not None
    return (embeds.shape[0], embeds.shape[1]) if embeds.ndim == 3 and embeds.numel() else None


def _cache_sizes(cache: Any, queries: int) -> tuple[int, int] | None:
    """Tokens seen so far and slots the cache will hand over, if slot 0 is the first token."""
    if cache is None:
        return 0, queries
    seen = cache.get_seq_length()
    if isinstance(seen, Tensor):
        # A static cache counts on its device: reading that would wait for it.
        if seen.device.type != "cpu" or torch.compiler.is_compiling():
            return None
        seen = int(seen)
    slots, offset = cache.get_mask_sizes(queries, 0)
    return (seen, slots) if offset == 0 and slots >= seen + queries else None


def _packed(arguments: dict[str, Any]) -> bool:
    """Positions that jump, without mask and cache, mean several sequences in one row."""
    positions = arguments.get("position_ids")
    if positions is None or arguments.get("past_key_values") is not None:
        return False
    return bool((positions.diff(dim=-1) != 1).any())
