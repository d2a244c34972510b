"""``_prepare_cache_for_generation`` of a patched model: ``generate`` gets a ``KVCache``."""

from __future__ import annotations

from typing import Any

from transformers import GenerationMixin, PreTrainedModel

from .cache import KVCache
from .override import Override
from .versions import require_parameters

__all__ = ["PREPARE", "PatchedCachePreparation"]

PREPARE = "_prepare_cache_for_generation"


class PatchedCachePreparation(Override[PreTrainedModel]):
    """``_prepare_cache_for_generation`` of a patched model: a ``KVCache`` unless told otherwise."""

    def __call__(
        self,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> Any:
        model = self.model
        config = model.config
        stock = (
            model_kwargs.get("past_key_values") is not None
            or generation_config.use_cache is False
            or generation_config.cache_implementation is not None
            or getattr(config, "add_cross_attention", False)
            or getattr(config, "is_encoder_decoder", False)
        )
        if stock:
            original = self.previous or getattr(type(model), PREPARE).__get__(model)
            return original(
                generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
            )
        limit = min(max_cache_length, config.max_position_embeddings)
        model_kwargs["past_key_values"] = KVCache(max_length=max(limit, 1))
        return None


_PREPARED = ("generation_config", "model_kwargs", "generation_mode", "max_cache_length")
require_parameters(getattr(GenerationMixin, PREPARE), _PREPARED, PREPARE)
