"""``patch`` and ``unpatch``: a model on the operators, one instance at a time.

Attributes of instances change: ``config`` of the attention modules, ``forward`` of the backbone, of
MLPs, activations and linear layers, and ``_prepare_cache_for_generation`` of a model that
generates. Classes and configs stay as they are, so copies, pickles and checkpoints work and other
models notice nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from .attention import interface  # registers the attention function that patched layers ask
from .caches.generation import PREPARE, PatchedCachePreparation
from .call.forward import PatchedForward, patch_of, require_our_layers
from .families.family import ModelFamily
from .families.finding import backbone_inside, generators_inside
from .families.requirements import require_attention, require_family
from .instance.attention_config import AttentionConfig
from .instance.forward_slot import forward_slot, restore_attribute, restore_forward
from .instance.neighbours import (
    attentions_of,
    inner_layer,
    require_own_layer,
    require_own_model,
)
from .layers.replacement import replaced_in, restore_layers, set_layers
from .levels import Levels

__all__ = ["patch", "patched", "paths", "unpatch"]

Model = TypeVar("Model", bound=torch.nn.Module)


def patch(
    model: Model,
    *,
    fused: bool = True,
    padding_free: bool = True,
    fuse_activation: bool = True,
    fast_linear: bool = True,
    positions_from_mask: bool = True,
    cache_dtype: torch.dtype | None = None,
) -> Model:
    """Run one Hugging Face model on the operators of masked_attn, without work for pads.

    Args:
        model: a model of a known family (GPT-2, Llama, Qwen2, Qwen3, Mistral, Gemma 2, Gemma 3,
            Granite, SmolLM3, Phi-3, StableLM, GPT-NeoX, OPT, Mixtral, Qwen3-MoE, gpt-oss, BERT,
            RoBERTa, XLM-RoBERTa, DistilBERT, Electra, ModernBERT) or any module with one inside (a
            model with a head, ``PeftModel``, DDP, a compiled model, ``SentenceTransformer``, the
            decoder of an encoder-decoder, ...).
        fused: False runs attention step by step (scores, expanded mask, softmax, product), for
            teaching and comparison.
        padding_free: run prompts without the pads that nobody reads. Hidden states and logits at
            those are then those of zeros.
        fuse_activation: the activation of an MLP inside its first layer, where ``fast_linear`` runs
            that; else ``gelu_new`` in one pass.
        fast_linear: on a CPU, linear layers run on ``linear`` where no gradient is needed. With
            ``fuse_activation`` a row then has the same bits in every batch, unless the model has
            experts: how many tokens one gets depends on the batch.
        positions_from_mask: where the caller gives a mask and no ``position_ids``, real tokens
            count real tokens, as in ``generate``. False counts pads too, as stock code does; a row
            that is padded on the left then depends on its padding.
        cache_dtype: storage of the ``KVCache`` that ``generate`` gets, ``torch.float16`` or
            ``torch.bfloat16`` beside a float32 model: half the memory, and other numerics. None
            means the model's.

    Returns:
        ``model`` itself, changed in place. Patching again only switches the options.

    Raises:
        TypeError: no model of a known family (others take ``attn_implementation="masked_attn"``),
            a config of which its layers do more than is known here, or attention that was replaced
            by others.
        ValueError: several models inside: patch each of them; or ``cache_dtype`` is no dtype of
            floats that the operators know.
        RuntimeError: the model was changed by others since it was patched; or the family is not
            one that is known here in the installed transformers.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16))
        >>> patch(model) is model
        True
    """
    levels = Levels(
        fused=fused,
        padding_free=padding_free,
        fuse_activation=fuse_activation,
        fast_linear=fast_linear,
        positions_from_mask=positions_from_mask,
        cache_dtype=cache_dtype,
    )
    family, backbone = backbone_inside(model)
    require_family(family)
    forward = patch_of(family, backbone)
    if forward is None:
        forward = _take_attention(family, backbone, levels)
    require_our_layers(family, backbone)
    _apply(levels, model, forward)
    for generator in generators_inside(model, backbone):
        previous = generator.__dict__.get(PREPARE)
        if not isinstance(previous, PatchedCachePreparation):
            generator.__dict__[PREPARE] = PatchedCachePreparation(generator, previous)
    return model


def unpatch(model: Model) -> Model:
    """Undo ``patch``: the identical modules and methods are back. Without a patch nothing happens.

    Args:
        model: the model that was given to ``patch``.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: no model of a known family.
        ValueError: several of them inside.
        RuntimeError: ``forward`` was wrapped by others since; undo that first.
    """
    family, backbone = backbone_inside(model)
    forward = patch_of(family, backbone)
    if forward is not None:
        _give_attention_back(family, backbone)
        restore_forward(backbone, forward.previous)
    restore_layers(model)
    for generator in generators_inside(model, backbone):
        _unpatch_cache_preparation(generator)
    return model


@contextmanager
def patched(model: Model, **levels: Any) -> Iterator[Model]:
    """Patch within a ``with`` block; a model that was patched before stays as it was.

    Args:
        model: see ``patch``.
        levels: see ``patch``.

    Yields:
        ``model`` itself.
    """
    family, backbone = backbone_inside(model)
    before = patch_of(family, backbone)
    levels_before = None if before is None else before.levels
    replaced = replaced_in(model)
    unprepared = [
        generator
        for generator in generators_inside(model, backbone)
        if not isinstance(generator.__dict__.get(PREPARE), PatchedCachePreparation)
    ]
    patch(model, **levels)
    try:
        yield model
    finally:
        forward = patch_of(family, backbone)
        if levels_before is None or forward is None:
            unpatch(model)
        else:
            for generator in unprepared:  # only a part was patched, as the ``transformer``
                _unpatch_cache_preparation(generator)
            _apply(levels_before, model, forward)
            restore_layers(model, keep=replaced)


def paths(model: torch.nn.Module) -> dict[int, str]:
    """Which attention each layer ran last, by layer number; empty when not patched or not yet run.

    The names are ``"packed_attention"``, ``"cached_attention"``, ``"masked_attention"``,
    ``"textbook"`` and ``"stock"``.
    """
    forward = patch_of(*backbone_inside(model))
    return {} if forward is None else forward.paths()


def _apply(levels: Levels, model: torch.nn.Module, forward: PatchedForward) -> None:
    forward.levels = levels
    set_layers(
        model,
        forward.model,
        fast_linear=levels.fast_linear,
        fuse_activation=levels.fuse_activation,
    )


def _take_attention(family: ModelFamily, backbone: Any, levels: Levels) -> PatchedForward:
    """Layers ask our attention function from now on, and ``forward`` is ours."""
    why = family.refused(backbone.config)
    if why is not None:
        raise TypeError(f"cannot patch {type(backbone).__name__}: {why}")
    require_own_model(family, backbone)
    layers = family.layers_of(backbone)
    for number, layer in enumerate(layers):
        require_own_layer(family, layer, number)
        for path, attention in attentions_of(family, layer).items():
            require_attention(attention, f"{path} of {family.layer}")
    interface.register_attention()
    eager = family.eager_attention
    for place, layer in enumerate(layers):
        for path, attention in attentions_of(family, layer).items():
            own: int | None = getattr(attention, "layer_idx", None)
            attention.__dict__["config"] = AttentionConfig(
                attention.config,
                eager,
                place if own is None else own,
                cross=path == family.cross_attention,
                keywords=family.keywords,
            )
    slot = forward_slot(backbone)
    forward = PatchedForward(backbone, backbone.__dict__.get(slot), family, levels)
    backbone.__dict__[slot] = forward
    return forward


def _give_attention_back(family: ModelFamily, backbone: Any) -> None:
    for layer in family.layers_of(backbone):
        for attention in attentions_of(family, inner_layer(family, layer)).values():
            config = attention.__dict__.get("config")
            if isinstance(config, AttentionConfig):
                attention.__dict__["config"] = config.original


def _unpatch_cache_preparation(model: PreTrainedModel) -> None:
    prepare = model.__dict__.get(PREPARE)
    if isinstance(prepare, PatchedCachePreparation):
        restore_attribute(model, PREPARE, prepare.previous)
