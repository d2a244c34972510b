"""GPT-2's attention on the operators: a subclass that shares everything with the original module.

The masks arrive as a plan, made once per forward of the model. Without a plan the stock code runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from ...functional import cached_attention, masked_attention, packed_attention
from ..caches.kv_cache import KVCache
from ..caches.static import self_attention_cache, static_layer
from ..call.cache_argument import named_by_us
from ..call.plan import STOCK, AttentionPlan
from ..call.visibility import Visibility, textbook_attention, wants_grad

__all__ = ["MaskedGPT2Attention"]


class MaskedGPT2Attention(GPT2Attention):
    """``GPT2Attention`` whose self-attention runs on the operators of masked_attn."""

    @classmethod
    def sharing(cls, original: GPT2Attention) -> MaskedGPT2Attention:
        """A module that is ``original`` in all but its class: one ``__dict__`` for both."""
        shared = cls.__new__(cls)
        object.__setattr__(shared, "__dict__", original.__dict__)
        return shared

    @named_by_us
    def forward(
        self,
        hidden_states: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        masked_attn_plan: AttentionPlan | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As in ``GPT2Attention``; ``masked_attn_plan`` takes the place of ``attention_mask``."""
        # Ours is empty; any other mask was put there by somebody who wants it to count.
        replaced = attention_mask is None or attention_mask.numel() > 0
        if masked_attn_plan is None or replaced:
            if masked_attn_plan is not None:
                masked_attn_plan.paths[self.layer_idx] = STOCK
                masked_attn_plan.left_to_stock(self.layer_idx, "its mask was replaced")
            inputs = (hidden_states, past_key_values, attention_mask, *args)
            return self.stock_forward(*inputs, **kwargs)
        query, key, value = self._heads(self.c_attn(hidden_states))
        attend = self._attend if masked_attn_plan.packing is None else self._attend_packed
        out, weights = attend(query, key, value, past_key_values, masked_attn_plan)
        return self._project(out, hidden_states), weights

    def stock_forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """``forward`` of ``GPT2Attention``."""
        out, weights = super().forward(*args, **kwargs)
        return out, weights

    def _heads(self, projected: Tensor) -> tuple[Tensor, ...]:
        """``[batch, tokens, n * embed]`` as ``n`` views ``[batch, heads, tokens, head_dim]``."""
        batch, tokens, width = projected.shape
        parts = projected.reshape(batch, tokens, width // self.split_size, -1, self.head_dim)
        return parts.permute(2, 0, 3, 1, 4).unbind(0)

    def _project(self, out: Tensor, hidden_states: Tensor) -> Tensor:
        """Merge the heads of ``out`` and give it the shape of ``hidden_states``."""
        merged = out.transpose(1, 2).reshape(hidden_states.shape)
        projected: Tensor = self.resid_dropout(self.c_proj(merged))
        return projected

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        past_key_values: Cache | None,
        plan: AttentionPlan,
    ) -> tuple[Tensor, Tensor | None]:
        """``[batch, heads, queries, head_dim]``, and the weights if they are asked for."""
        seen, cache = plan.seen.on(query.device), self_attention_cache(past_key_values)
        grad = wants_grad(query) or _cache_wants_grad(cache, self.layer_idx)
        drops = self.training and self.attn_dropout.p > 0.0
        plain = not plan.textbook and not grad and not drops
        # cached_attention is always causal; one query sees every key either way.
        causal = seen.causal or query.shape[2] == 1
        unrounded = _rounds_first_keys(cache, self.layer_idx, key)
        in_place = (
            self._in_place(query, key, value, cache, seen, plan.static)
            if plain and causal and not unrounded
            else None
        )
        if in_place is not None:
            plan.paths[self.layer_idx] = "cached_attention"
            return in_place, None
        if plan.static:
            assert cache is not None
            layer = static_layer(cache, self.layer_idx, key, value)
            seen = seen.from_position(layer.cumulative_length, query.shape[2])
        if cache is not None:
            stored = cache.update(key, value, self.layer_idx)
            key, value = (key, value) if unrounded else stored
        key, value = key[:, :, : seen.keys], value[:, :, : seen.keys]
        path, out, weights = self._over(query, key, value, seen, plan, grad=grad)
        plan.paths[self.layer_idx] = path
        return out, weights

    def _attend_packed(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        past_key_values: Cache | None,
        plan: AttentionPlan,
    ) -> tuple[Tensor, Tensor | None]:
        """``_attend`` for ``[1, heads, kept tokens, head_dim]``: the rows lie back to back."""
        assert plan.packing is not None
        packing, cache = plan.packing.on(query.device), self_attention_cache(past_key_values)
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        drops = self.training and self.attn_dropout.p > 0.0
        if packing.filled or packing.has_pads or plan.static or wants_grad(query) or drops:
            query, key, value = (packing.unpack_heads(states) for states in (query, key, value))
            out, weights = self._attend(query, key, value, past_key_values, plan)
            return packing.pack_heads(out).transpose(0, 1)[None], weights
        plan.paths[self.layer_idx] = "packed_attention"
        if isinstance(cache, KVCache):
            cache.write_packed(key, value, self.layer_idx, packing)
        elif cache is not None:
            cache.update(packing.unpack_heads(key), packing.unpack_heads(value), self.layer_idx)
        out = packed_attention(
            query,
            key,
            value,
            packing.cu_seqlens,
            packing.longest,
            causal=True,
            scale=self.scaling,
        )
        return out.transpose(0, 1)[None], None

    def _over(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Visibility,
        plan: AttentionPlan,
        *,
        grad: bool,
    ) -> tuple[str, Tensor, Tensor | None]:
        """Attention over keys that are all there: the path, the result, and perhaps the weights."""
        dropout = self.attn_dropout.p if self.training else 0.0
        if plan.textbook:
            upcast = self.reorder_and_upcast_attn
            out, weights = textbook_attention(
                query, key, value, seen, scale=self.scaling, dropout=dropout, upcast=upcast
            )
            return "textbook", out, weights
        if not grad and dropout == 0.0:
            out = masked_attention(query, key, value, scale=self.scaling, **seen.arguments())
            return "masked_attention", out, None
        if grad:
            plan.left_to_stock(self.layer_idx, "gradients are recorded inside the layers")
        else:
            plan.left_to_stock(self.layer_idx, "attention weights are dropped")
        out, _ = sdpa_attention_forward(
            self,
            query,
            key,
            value,
            seen.dense(query),
            dropout=dropout,
            scaling=self.scaling,
            is_causal=seen.causal,
        )
        return STOCK, out.transpose(1, 2), None

    def _in_place(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cache: Cache | None,
        seen: Visibility,
        static: bool,
    ) -> Tensor | None:
        """Attention that writes the cache itself; None for a cache that it cannot take."""
        if static:
            assert cache is not None
            layer = static_layer(cache, self.layer_idx, key, value)
            if not _stores(layer.keys.dtype, query):
                return None
            position = layer.cumulative_length.reshape(())
            caches = layer.keys, layer.values
            out = self._cached_attention(query, key, value, caches, position, seen)
            layer.cumulative_length.add_(query.shape[2])
            return out
        if not isinstance(cache, KVCache):
            return None
        # `update` converts what the operator does not.
        if not _stores(cache.layer(self.layer_idx).buffer.storage_dtype(query.dtype), query):
            return None
        key_cache, value_cache, filled = cache.reserve(key, value, self.layer_idx)
        caches = key_cache, value_cache
        out = self._cached_attention(query, key, value, caches, filled, seen)
        cache.advance(query.shape[2], self.layer_idx)
        return out

    def _cached_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        caches: tuple[Tensor, Tensor],
        position: int | Tensor,
        seen: Visibility,
    ) -> Tensor:
        return cached_attention(
            query,
            key,
            value,
            *caches,
            position=position,
            key_mask=seen.key_mask,
            attn_mask=seen.attn_mask,
            scale=self.scaling,
        )


def _stores(dtype: torch.dtype, query: Tensor) -> bool:
    """Whether ``cached_attention`` takes caches of ``dtype`` beside this query."""
    smaller = query.dtype == torch.float32 and dtype in (torch.float16, torch.bfloat16)
    return smaller or dtype == query.dtype


def _rounds_first_keys(cache: Cache | None, layer_idx: int, key: Tensor) -> bool:
    """Whether these are the first keys of a ``KVCache`` of another dtype.

    Attention then takes them unrounded, as it does for a prompt without its pads.
    """
    if not isinstance(cache, KVCache):
        return False
    buffer = cache.layer(layer_idx).buffer
    return buffer.length == 0 and buffer.storage_dtype(key.dtype) != key.dtype


def _cache_wants_grad(cache: Cache | None, layer_idx: int) -> bool:
    if not torch.is_grad_enabled() or cache is None or layer_idx >= len(cache.layers):
        return False
    return wants_grad(getattr(cache.layers[layer_idx], "keys", None))
