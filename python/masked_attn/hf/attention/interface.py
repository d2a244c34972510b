"""``attn_implementation="masked_attn"`` for every transformers model on the attention interface.

Two functions go under one name. Without the mask function every layer would get no mask at all and
nobody would notice, so importing this file registers both and checks that both are there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache
from transformers.masking_utils import sdpa_mask

from ..call.plan import Plan
from ..call.sequences import KEYWORDS, Sequences
from ..call.visibility import Visibility, on_host
from ..instance.attention_config import AttentionConfig
from ..versions import encoder_mask_gets_lost, require_parameters
from .layer import Layer
from .masks import make_mask
from .paths import attend, attend_in_sequences
from .planned import attend_as_planned, attend_to_encoder, running_plan
from .position_bias import add_position_bias
from .stock import stock_attention
from .window_mask import WindowMask

try:
    from transformers.utils.output_capturing import _active_collector
except ImportError:
    _active_collector = None

__all__ = ["NAME", "attention_forward", "make_mask", "register_attention"]

NAME = "masked_attn"

# They change the result of attention and the operators do not know them: a sink for each query,
# heads that are taken away, keys chosen by an indexer, a paged cache.
UNSUPPORTED = ("sinks", "head_mask", "indices", "block_indices", "cache")
# Pages of keys, and the names of others for sequences back to back in one row.
PAGED = ("cu_seqlens", "block_table")


def register_attention() -> None:
    """Register the attention function and the mask function; twice is once."""
    mask_parameters = ("q_length", "kv_length", "q_offset", "kv_offset", "allow_is_causal_skip")
    require_parameters(sdpa_mask, mask_parameters, "sdpa_mask")
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, make_mask)
    if AttentionInterface()[NAME] is not attention_forward:
        raise RuntimeError("masked_attn: the attention function could not be registered")
    if AttentionMaskInterface()[NAME] is not make_mask:
        raise RuntimeError("masked_attn: the mask function could not be registered")


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    masked_attn_plan: Plan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of one layer: ``masked_attention``, or torch's own where a gradient is needed.

    With a softcap or sinks, which torch's own does not know, it runs step by step there.

    Args:
        module: the attention module; its ``is_causal`` counts when there is no mask.
        query: ``[batch, heads, queries, head_dim]``.
        key: ``[batch, kv_heads, keys, head_dim]``.
        value: ``[batch, kv_heads, keys, value_dim]``.
        attention_mask: what the mask function returned, or a 4-D mask of the caller.
        dropout: dropout of the weights (then torch's own attention runs).
        scaling: factor of the scores; ``None`` means ``head_dim ** -0.5``.
        is_causal: overrides that of the module.
        sliding_window: counts unless a 4-D mask, a ``WindowMask`` too, says all.
        softcap: bound of the scores, see ``masked_attention``.
        s_aux: ``[heads]``, the sinks of ``masked_attention``.
        masked_attn_plan: of the running forward of a patched model, which then says what is seen.
        kwargs: ``position_bias``, as T5 has it, is added to the scores; sequences back to back.

    Returns:
        ``[batch, queries, heads, value_dim]``, and the weights when attentions are asked for.

    Raises:
        ValueError: an argument that changes the result and is not supported.
    """
    config: Any = getattr(module, "config", None)
    layer = Layer(module, scaling, dropout, sliding_window, softcap, s_aux)
    if isinstance(config, AttentionConfig):
        if not (config.keywords or config.cross or torch.compiler.is_compiling()):
            masked_attn_plan = running_plan()
        if masked_attn_plan is not None and not config.cross:
            return attend_as_planned(
                layer, config, query, key, value, attention_mask, masked_attn_plan, **kwargs
            )
        plan = _plan_of_cross_attention(config, attention_mask, key)
        if plan is not None:
            return attend_to_encoder(layer, config, query, key, value, plan)
        if config.original._attn_implementation != NAME:
            said = {**layer.said(), **kwargs}
            if is_causal is not None:
                said["is_causal"] = is_causal
            return stock_attention(module, config, query, key, value, attention_mask, **said)
    # From transformers 5.24 on some layers hand on their ordinary cache, which means nothing here.
    if isinstance(kwargs.get("cache"), Cache):
        kwargs["cache"] = None
    _refuse_unsupported(kwargs)
    bias: Tensor | None = kwargs.get("position_bias")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    textbook = bool(kwargs.get("output_attentions")) or _attentions_are_collected()
    sequences = _sequences_in_row(kwargs, attention_mask, query, key, causal, sliding_window)
    if sequences is not None:
        if isinstance(attention_mask, WindowMask):
            layer = replace(layer, window=attention_mask.window)
        if bias is None:
            _, out, weights = attend_in_sequences(
                layer, query, key, value, sequences, causal=causal, textbook=textbook
            )
            return out.contiguous(), weights
        sequences = sequences.on(query.device)
        seen = sequences.visibility(query.shape[2], causal=causal, window=layer.window)
    else:
        seen = _visibility(attention_mask, query, key, causal, sliding_window)
    if bias is not None:
        seen = add_position_bias(seen, bias, query, key)
    _, out, weights = attend(layer, query, key, value, seen, textbook=textbook)
    return out.contiguous(), weights


def _plan_of_cross_attention(
    config: AttentionConfig, mask: Tensor | None, key: Tensor
) -> Plan | None:
    """The plan of the running forward, where its empty mask says that it is meant.

    Where that gets lost on the way, the number of keys must do.
    """
    if not config.cross or torch.compiler.is_compiling():
        return None
    plan = running_plan()
    if plan is None or plan.encoder is None:
        return None
    if mask is not None and mask.numel() == 0:
        return plan
    lost = encoder_mask_gets_lost() and (mask is None or not bool(mask.any()))
    return plan if lost and key.shape[2] == plan.encoder.keys else None


def _visibility(
    mask: Tensor | None, query: Tensor, key: Tensor, causal: bool, window: int | None
) -> Visibility:
    batch, keys = key.shape[0], key.shape[2]
    if isinstance(mask, WindowMask):
        shape = (batch, 1, query.shape[2], keys)
        if mask.written is None and mask.shape == shape:
            return Visibility(keys, mask.key_mask, causal=mask.causal, window=mask.window)
        mask = mask.dense()
    if mask is None:
        return Visibility(keys=keys, causal=bool(causal), window=window)
    if mask.ndim == 2:
        return Visibility(keys=mask.shape[1], key_mask=mask, causal=True, window=window)
    if mask.ndim == 4:
        return Visibility.of_4d(mask, batch, keys)
    raise ValueError(f"masked_attn: attention_mask must be 2-D or 4-D, got {list(mask.shape)}")


def _refuse_unsupported(kwargs: dict[str, Any]) -> None:
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(
                f'attn_implementation="{NAME}" does not support {name}; '
                'use attn_implementation="eager" for this model'
            )
    for name in PAGED:
        if kwargs.get(name) is not None:
            raise ValueError(
                f'attn_implementation="{NAME}" does not support {name}; sequences back to back in '
                f"one row are told by {', '.join(KEYWORDS)}"
            )


def _sequences_in_row(
    kwargs: dict[str, Any],
    mask: Tensor | None,
    query: Tensor,
    key: Tensor,
    causal: bool,
    window: int | None,
) -> Sequences | None:
    """Several sequences in the one row: by keywords, or by positions that start again.

    Raises:
        ValueError: they are told beside a cache that holds tokens, or beside a mask.
    """
    batch, _, tokens, _ = query.shape
    sequences = Sequences.of_keywords(kwargs, batch, tokens)
    if sequences is None:
        positions = kwargs.get("position_ids")
        if not causal or not _starts_again(positions, mask):
            return None
        assert positions is not None
        sequences = Sequences.of_positions(positions) if len(positions) == 1 == batch else None
        what = "position_ids that start again (packed sequences)"
    else:
        what = "cu_seq_lens_q (packed sequences)"
    fits = sequences is not None and key.shape[2] == tokens
    if sequences is None or not fits or not _says_no_more(mask, sequences, causal, window):
        raise ValueError(
            f'attn_implementation="{NAME}" got {what} together with a cache that holds tokens, a '
            "mask, or several rows, where they would see each other: pass one row and no "
            "attention_mask"
        )
    return sequences


def _says_no_more(
    mask: Tensor | None, sequences: Sequences, causal: bool, window: int | None
) -> bool:
    """Whether a mask only says what sequences, causality and the window say: it has no pads."""
    if isinstance(mask, WindowMask) and mask.written is None:
        mask = mask.key_mask
    if mask is None:
        return True
    if not on_host(mask):
        return False
    if mask.ndim == 2:
        return bool(mask.all())
    # From transformers, which parts sequences by their positions where there is no cache.
    said = sequences.visibility(mask.shape[-1], causal=causal, window=window).attn_mask
    return said is not None and torch.equal(mask, said)


def _starts_again(positions: Tensor | None, mask: Tensor | None) -> bool:
    """Whether the host sees positions that start again, and a mask that does not part them."""
    if positions is None or positions.ndim != 2 or positions.shape[1] == 1:
        return False
    if not on_host(positions):
        return False
    restarts = (positions[:, 1:] == 0) & (positions[:, :-1] > 0)
    if mask is not None:
        sees_previous = _sees_previous(mask, positions.shape[1])
        if sees_previous is None:
            return False
        restarts = restarts & sees_previous
    try:
        return bool(restarts.any())
    except RuntimeError:  # FakeTensorMode and make_fx refuse to tell a value
        return False


def _sees_previous(mask: Tensor, queries: int) -> Tensor | None:
    """Bool ``[batch, queries - 1]``: whether tokens, from the second on, see the one before them.

    None where the mask does not say which key that is: its keys are slots of a cache.
    """
    if isinstance(mask, WindowMask) and mask.written is None and mask.window > 1:
        mask = mask.key_mask
    if mask.ndim == 2:
        real = mask[:, -queries:] != 0
        return real[:, 1:] & real[:, :-1]
    if mask.ndim != 4 or mask.dtype != torch.bool or mask.shape[2:] != (queries, queries):
        return None
    return mask.diagonal(-1, dim1=2, dim2=3).any(1)


def _attentions_are_collected() -> bool:
    """Some models (GPT-2) do not tell their layers that attentions are collected."""
    collected = _active_collector.get() if _active_collector is not None else None
    return any(name.endswith("attentions") for name in collected or ())


register_attention()
