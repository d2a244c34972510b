"""Finds the GPT-2 inside wrappers: PEFT, DDP, compiled models, encoder-decoders, own modules."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationMixin, GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

__all__ = ["generators_inside", "gpt2_inside"]


def gpt2_inside(model: Any) -> GPT2Model:
    """The one ``GPT2Model`` in ``model``, however deep.

    Args:
        model: a ``GPT2Model`` or any module around one.

    Raises:
        TypeError: there is none.
        ValueError: there are several; the message names them.
    """
    named = model.named_modules() if isinstance(model, nn.Module) else ()
    found = {name: module for name, module in named if isinstance(module, GPT2Model)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ValueError(
            f"{type(model).__name__} holds {len(found)} GPT-2 models: {', '.join(sorted(found))}; "
            "call patch, unpatch and paths for each of them"
        )
    raise TypeError(
        f"masked_attn patches a Hugging Face GPT-2, got {type(model).__name__}; for other models "
        "call register_attention() and load them with "
        'attn_implementation="masked_attn" or call model.set_attn_implementation("masked_attn")'
    )


def generators_inside(model: nn.Module) -> list[Any]:
    """The modules in ``model`` whose ``generate`` runs a GPT-2; wrappers hand their calls on."""
    return [
        module
        for module in model.modules()
        # A model around several parts, as an encoder-decoder, keeps caches of its own kind.
        if isinstance(module, GenerationMixin)
        and isinstance(getattr(module, "config", None), GPT2Config)
    ]
