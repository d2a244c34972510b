"""``_prepare_cache_for_generation`` of a patched model: ``generate`` gets a ``KVCache``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ..call.cache_argument import THEIRS
from ..call.forward import patch_of
from ..families.finding import backbone_inside
from ..families.requirements import PREPARE
from ..instance.override import Override
from .kv_cache import KVCache

__all__ = ["PREPARE", "PatchedCachePreparation"]


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
        _require_tokens(model_kwargs.get("attention_mask"), generation_config, model.config)
        forward = patch_of(*backbone_inside(model))
        config = model.config
        stock = (
            model_kwargs.get(THEIRS) is not None
            or generation_config.use_cache is False
            or generation_config.cache_implementation is not None
            or getattr(config, "add_cross_attention", False)
            or getattr(config, "is_encoder_decoder", False)
        )
        if stock:
            return self.beneath(PREPARE)(
                generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
            )
        limit = min(max_cache_length, getattr(config, "max_position_embeddings", max_cache_length))
        dtype = None if forward is None else forward.levels.cache_dtype
        model_kwargs[THEIRS] = KVCache(max_length=max(limit, 1), dtype=dtype)
        return None


def _require_tokens(mask: Any, generation_config: Any, config: Any) -> None:
    """Refuse a row without a token: there is nothing that ``generate`` could continue.

    Raises:
        ValueError: names the row.
    """
    encoders = getattr(config, "is_encoder_decoder", False)  # there it is the encoder's mask
    if encoders or not isinstance(mask, Tensor) or mask.ndim != 2 or mask.is_meta:
        return
    empty = (mask == 0).all(-1).nonzero()[:, 0].tolist()
    if empty:
        # Each prompt has been repeated for its beams or samples.
        copies = max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
        raise ValueError(
            f"generate: row {empty[0] // copies} of attention_mask has no token, only padding"
        )
