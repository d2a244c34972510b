"""Padded batches for any model, from the arguments that its ``forward`` names."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from model_types.shrink import VOCAB
from torch import Tensor, nn

LENGTHS = (6, 10, 3)
QUERIES = max(LENGTHS)


def padding_mask(side: str) -> Tensor:
    """``[batch, tokens]`` of 0 and 1, pads on one side; none for ``side="none"``."""
    mask = torch.ones(len(LENGTHS), QUERIES, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        if side == "left":
            mask[row, : QUERIES - length] = 0
        elif side == "right":
            mask[row, length:] = 0
    return mask


def make_inputs(model: nn.Module, mask: Tensor) -> dict[str, Any]:
    """Keywords of one forward; tokens, images and sound are the same in every call."""
    names = inspect.signature(model.forward).parameters
    config = model.config
    generator = torch.Generator().manual_seed(3)
    batch, tokens = mask.shape
    given: dict[str, Any] = {}

    def words(count: int = tokens) -> Tensor:
        return torch.randint(5, 50, (batch, count), generator=generator)

    if "input_ids" in names:
        given["input_ids"] = words()
        if "attention_mask" in names:
            given["attention_mask"] = mask
    if "decoder_input_ids" in names:
        given["decoder_input_ids"] = words()
        if "decoder_attention_mask" in names and "input_ids" in names:
            given["decoder_attention_mask"] = mask
    if "bbox" in names:
        given["bbox"] = torch.zeros(batch, tokens, 4, dtype=torch.long) + torch.arange(4)
    main = getattr(model, "main_input_name", "input_ids")
    vision = getattr(config, "vision_config", config)
    if "pixel_values" in names and (
        main == "pixel_values"
        or _required(names["pixel_values"])
        or "input_ids" not in names
        or hasattr(config, "projection_dim")
    ):
        size = getattr(vision, "image_size", 32)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        channels = getattr(vision, "num_channels", 3)
        given["pixel_values"] = torch.randn(batch, channels, height, width, generator=generator)
    if "input_values" in names and "input_ids" not in names:
        given["input_values"] = torch.randn(batch, 2000, generator=generator)
    if "input_features" in names and "input_ids" not in names:
        mels = getattr(config, "num_mel_bins", None) or getattr(config, "input_dim", 80)
        frames = 2 * getattr(config, "max_source_positions", 50)
        given["input_features"] = torch.randn(batch, mels, frames, generator=generator)
    if not given:
        raise NotImplementedError(f"no inputs are known for {list(names)[:6]}")
    assert VOCAB > 50
    return given


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty
