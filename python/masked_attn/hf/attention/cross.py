"""GPT-2's cross attention on the operators: it looks at the states of an encoder.

The surprise: the blocks hand no keyword on to cross attention, so the plan of the running forward
waits in a context variable, one for each thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

from ..call.cache_argument import named_by_us
from ..call.plan import AttentionPlan
from ..call.visibility import wants_grad
from .gpt2 import MaskedGPT2Attention

__all__ = ["MaskedGPT2CrossAttention", "cross_attention_follows"]

_plan: ContextVar[AttentionPlan | None] = ContextVar("masked_attn_plan", default=None)


@contextmanager
def cross_attention_follows(plan: AttentionPlan | None, model: GPT2Model) -> Iterator[None]:
    """Cross attention inside the block follows ``plan``; without one it runs stock code.

    A model without cross attention has nothing to follow. A compiled graph can't hold the variable,
    so make_plan leaves cross attention to stock code there.
    """
    if not model.config.add_cross_attention or torch.compiler.is_compiling():
        yield
        return
    token = _plan.set(plan)
    try:
        yield
    finally:
        _plan.reset(token)


class MaskedGPT2CrossAttention(MaskedGPT2Attention):
    """``GPT2Attention(is_cross_attention=True)`` on the operators."""

    @named_by_us
    def forward(
        self,
        hidden_states: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As in ``GPT2Attention``; the encoder's mask is in the plan."""
        plan = None if torch.compiler.is_compiling() else _plan.get()
        # Other states than the plan's: somebody calls this layer for purposes of his own.
        states = encoder_hidden_states
        if plan is None or plan.encoder is None or states is None or states is not plan.states:
            cache = past_key_values
            inputs = (hidden_states, cache, attention_mask, encoder_hidden_states, *args)
            return self.stock_forward(*inputs, **kwargs)
        (query,) = self._heads(self.q_attn(hidden_states))
        key, value = self._encoder_heads(states, past_key_values)
        grad = wants_grad(query, key, value)
        seen = plan.encoder.on(query.device)
        path, out, weights = self._over(query, key, value, seen, plan, grad=grad)
        plan.cross_paths[self.layer_idx] = path
        return self._project(out, hidden_states), weights

    def _encoder_heads(self, states: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder, computed once for each generation."""
        if not isinstance(cache, EncoderDecoderCache):
            key, value = self._heads(self.c_attn(states))
            return key, value
        stored = cache.cross_attention_cache
        if cache.is_updated.get(self.layer_idx):
            layer = stored.layers[self.layer_idx]
            # A cache of a smaller dtype gives what `update` gave in the first step.
            return layer.keys.to(states.dtype), layer.values.to(states.dtype)
        key, value = stored.update(*self._heads(self.c_attn(states)), self.layer_idx)
        cache.is_updated[self.layer_idx] = True
        return key, value
