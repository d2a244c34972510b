"""Finds the backbone inside wrappers: PEFT, DDP, compiled models, encoder-decoders, pipelines."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationMixin

from .family import ModelFamily
from .registry import FAMILIES, family_of

__all__ = ["backbone_inside", "generators_inside"]


def backbone_inside(model: Any) -> tuple[ModelFamily, Any]:
    """The one model of a known family in ``model``, however deep, and its family.

    Of an encoder-decoder it is the decoder; its encoder can be patched by itself.

    Args:
        model: a model without heads, as ``LlamaModel``, or any module around one.

    Raises:
        TypeError: there is none.
        ValueError: there are several; the message names them.
    """
    found: dict[str, tuple[ModelFamily, nn.Module]] = {}
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        family = family_of(module)
        if family is not None:
            found[name] = family, module
    if len(found) > 1:
        found = _decoder_of(model, found)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        names = ", ".join(sorted(found))
        raise ValueError(
            f"{type(model).__name__} holds {len(found)} models: {names}; "
            "call patch, unpatch and paths for each of them"
        )
    known = ", ".join(family.name for family in FAMILIES)
    raise TypeError(
        f"masked_attn patches Hugging Face models of the families {known}; got "
        f"{type(model).__name__}. For other models call register_attention() and load them with "
        'attn_implementation="masked_attn" or call model.set_attn_implementation("masked_attn")'
    )


def _decoder_of(
    model: nn.Module, found: dict[str, tuple[ModelFamily, nn.Module]]
) -> dict[str, tuple[ModelFamily, nn.Module]]:
    """The decoder alone, where all are parts of one encoder-decoder; else all."""
    decoders = {name: pair for name, pair in found.items() if pair[0].causal}
    for module in model.modules():
        if getattr(getattr(module, "config", None), "is_encoder_decoder", False):
            parts = set(module.modules())
            if len(decoders) == 1 and all(part in parts for _, part in found.values()):
                return decoders
    return found


def generators_inside(model: nn.Module, backbone: nn.Module) -> list[Any]:
    """The modules in ``model`` whose ``generate`` runs ``backbone``; wrappers hand calls on.

    A model around several parts, as an encoder-decoder, has another config and keeps caches of its
    own kind.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, GenerationMixin)
        and type(getattr(module, "config", None)) is type(backbone.config)
        and any(part is backbone for part in module.modules())
    ]
