"""``patch`` and ``unpatch``: GPT-2 on the operators, one instance at a time.

Attributes of instances change: the attention modules of every block, ``forward`` of the
``GPT2Model``, of MLPs, activations and linear layers, and ``_prepare_cache_for_generation`` of a
model that generates. Classes and configs stay as they are, so copies, pickles and checkpoints work
and other models notice nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Model

from .attention.gpt2 import MaskedGPT2Attention
from .caches.generation import PREPARE, PatchedCachePreparation
from .call.forward import CLASSES, PatchedForward, patch_of, require_our_layers
from .families.finding import generators_inside, gpt2_inside
from .families.gpt2_interface import require_attention, require_gpt2
from .instance.forward_slot import (
    forward_slot,
    hand_over_forward,
    restore_attribute,
    restore_forward,
)
from .instance.neighbours import (
    attentions_of,
    require_own_block,
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
    """Run one Hugging Face GPT-2 on the operators of masked_attn, without work for pads.

    Args:
        model: ``GPT2Model`` or any module with one inside (``GPT2LMHeadModel``, ``PeftModel``,
            DDP, a compiled model, an encoder-decoder, ...).
        fused: False runs attention step by step (scores, expanded mask, softmax, product), for
            teaching and comparison.
        padding_free: run prompts without the pads that nobody reads. Hidden states and logits at
            those are then those of zeros.
        fuse_activation: the activation of an MLP inside its first layer, where ``fast_linear`` runs
            that; else ``gelu_new`` in one pass.
        fast_linear: on a CPU, linear layers run on ``linear`` where no gradient is needed. With
            ``fuse_activation`` a row then has the same bits in every batch.
        positions_from_mask: where the caller gives a mask and no ``position_ids``, real tokens
            count real tokens, as in ``generate``. False counts pads too, as stock code does; a row
            that is padded on the left then depends on its padding.
        cache_dtype: storage of the ``KVCache`` that ``generate`` gets, ``torch.float16`` or
            ``torch.bfloat16`` beside a float32 model: half the memory, and other numerics. None
            means the model's.

    Returns:
        ``model`` itself, changed in place. Patching again only switches the options.

    Raises:
        TypeError: not a GPT-2 (other models take ``attn_implementation="masked_attn"``), or its
            attention was replaced by others.
        ValueError: several GPT-2 models inside: patch each of them; or ``cache_dtype`` is no dtype
            of floats that the operators know.
        RuntimeError: the model was changed by others since it was patched; or the GPT-2 of the
            installed transformers is not one that is known here.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16))
        >>> patch(model) is model
        True
    """
    require_gpt2()
    levels = Levels(
        fused=fused,
        padding_free=padding_free,
        fuse_activation=fuse_activation,
        fast_linear=fast_linear,
        positions_from_mask=positions_from_mask,
        cache_dtype=cache_dtype,
    )
    transformer = gpt2_inside(model)
    forward = patch_of(transformer)
    if forward is None:
        forward = _replace_attention(transformer, levels)
    require_our_layers(transformer)
    _apply(levels, model, forward)
    for generator in generators_inside(model):
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
        TypeError: not a GPT-2.
        ValueError: several GPT-2 models inside.
        RuntimeError: ``forward`` was wrapped by others since; undo that first.
    """
    transformer = gpt2_inside(model)
    forward = patch_of(transformer)
    if forward is not None:
        for block, originals in forward.originals:
            for name, original in originals.items():
                _put_back(block, name, original)
        restore_forward(transformer, forward.previous)
    restore_layers(model)
    for generator in generators_inside(model):
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
    transformer = gpt2_inside(model)
    before = patch_of(transformer)
    levels_before = None if before is None else before.levels
    replaced = replaced_in(model)
    unprepared = [
        generator
        for generator in generators_inside(model)
        if not isinstance(generator.__dict__.get(PREPARE), PatchedCachePreparation)
    ]
    patch(model, **levels)
    try:
        yield model
    finally:
        forward = patch_of(transformer)
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
    forward = patch_of(gpt2_inside(model))
    return {} if forward is None else forward.paths()


def _apply(levels: Levels, model: torch.nn.Module, forward: PatchedForward) -> None:
    forward.levels = levels
    set_layers(
        model,
        forward.model,
        fast_linear=levels.fast_linear,
        fuse_activation=levels.fuse_activation,
    )


def _replace_attention(transformer: GPT2Model, levels: Levels) -> PatchedForward:
    require_own_model(transformer)
    for number, layer in enumerate(transformer.h):
        require_own_block(layer, number)
        for name, attention in attentions_of(layer).items():
            require_attention(attention, f"{name} of GPT2Block")
    originals = [(block, attentions_of(block)) for block in transformer.h]
    for block, modules in originals:
        for name, original in modules.items():
            ours = CLASSES[name].sharing(original)
            setattr(block, name, ours)
            hand_over_forward(original, ours)
    slot = forward_slot(transformer)
    previous = transformer.__dict__.get(slot)
    forward = PatchedForward(transformer, originals, previous, levels)
    transformer.__dict__[slot] = forward
    return forward


def _put_back(block: torch.nn.Module, name: str, original: GPT2Attention) -> None:
    ours = getattr(block, name)
    if isinstance(ours, MaskedGPT2Attention):
        # Copies and pickles of a patched model no longer share the dict.
        object.__setattr__(original, "__dict__", ours.__dict__)
        hand_over_forward(ours, original)
        setattr(block, name, original)


def _unpatch_cache_preparation(model: PreTrainedModel) -> None:
    prepare = model.__dict__.get(PREPARE)
    if isinstance(prepare, PatchedCachePreparation):
        restore_attribute(model, PREPARE, prepare.previous)
