"""``patch`` and ``unpatch``: GPT-2 on the operators, one instance at a time.

Three kinds of instance attributes change: ``block.attn`` of every block, ``forward`` of the
``GPT2Model``, and ``_prepare_cache_for_generation`` of a model that generates. Classes and configs
stay as they are, so copies, pickles and checkpoints work and other models notice nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from transformers import GenerationMixin, PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Model

from .cache import KVCache
from .finding import generators_inside, gpt2_inside
from .gpt2 import MaskedGPT2Attention
from .neighbours import blocks_of, forward_slot, hand_over_forward, require_own_block
from .plan import STOCK, LeftToStock, make_plan
from .versions import require_parameters

__all__ = ["patch", "patched", "paths", "unpatch"]

Model = TypeVar("Model", bound=torch.nn.Module)

_PREPARE = "_prepare_cache_for_generation"


class PatchedForward:
    """``forward`` of a patched ``GPT2Model``: makes the plan and keeps what ``unpatch`` needs."""

    def __init__(
        self, model: GPT2Model, originals: list[GPT2Attention], previous: Any, fused: bool
    ) -> None:
        self.model = model
        self.originals = originals
        self.previous = previous
        self.fused = fused
        self.paths: dict[int, str] = {}
        parameters = inspect.signature(GPT2Model.forward).parameters.values()
        self.names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(type(self.model).forward.__get__(self.model))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self.names, args, strict=False))
        if len(named) < len(args) or named.keys() & kwargs.keys():
            return self._stock(*args, **kwargs)  # raises TypeError
        arguments = {**named, **kwargs}
        try:
            plan = make_plan(self.model, arguments, self.fused, self.paths)
        except LeftToStock:
            self.paths.update(dict.fromkeys(range(len(self.originals)), STOCK))
            return self._stock(*args, **kwargs)
        _require_our_layers(self.model)
        self._warn_of_padding(arguments)
        # A 4-D mask is passed on untouched, so no layer and no mask function expands anything.
        arguments["attention_mask"] = torch.empty(0, 0, 0, 0)
        return self._stock(**arguments, masked_attn_plan=plan)

    def _stock(self, *args: Any, **kwargs: Any) -> Any:
        if self.previous is not None:
            return self.previous(*args, **kwargs)
        return type(self.model).forward(self.model, *args, **kwargs)

    def _warn_of_padding(self, arguments: dict[str, Any]) -> None:
        """Without a mask stock code looks for pad tokens at every step: the prompt is enough.

        Only where looking does not wait for a device.
        """
        ids, cache = arguments.get("input_ids"), arguments.get("past_key_values")
        if ids is None or ids.device.type != "cpu" or arguments.get("attention_mask") is not None:
            return
        if cache is None or not cache.get_seq_length():
            self.model.warn_if_padding_and_no_attention_mask(ids, None)


class PatchedCachePreparation:
    """``_prepare_cache_for_generation`` of a patched model: a ``KVCache`` unless told otherwise."""

    def __init__(self, model: PreTrainedModel, previous: Any) -> None:
        self.model = model
        self.previous = previous

    def __call__(
        self,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> Any:
        config = self.model.config
        stock = (
            model_kwargs.get("past_key_values") is not None
            or generation_config.use_cache is False
            or generation_config.cache_implementation is not None
            or getattr(config, "add_cross_attention", False)
            or getattr(config, "is_encoder_decoder", False)
        )
        if stock:
            original = self.previous or getattr(type(self.model), _PREPARE).__get__(self.model)
            return original(
                generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
            )
        limit = min(max_cache_length, config.max_position_embeddings)
        model_kwargs["past_key_values"] = KVCache(max_length=max(limit, 1))
        return None


def patch(model: Model, *, fused: bool = True) -> Model:
    """Run the self-attention of one Hugging Face GPT-2 on the operators of masked_attn.

    Args:
        model: ``GPT2Model`` or any module with one inside (``GPT2LMHeadModel``, ``PeftModel``,
            DDP, a compiled model, an encoder-decoder, ...).
        fused: False runs attention step by step (scores, expanded mask, softmax, product), for
            teaching and comparison. Patching again only switches this.

    Returns:
        ``model`` itself, changed in place.

    Raises:
        TypeError: not a GPT-2 (other models take ``attn_implementation="masked_attn"``), or its
            attention was replaced by others.
        ValueError: several GPT-2 models inside: patch each of them.
        RuntimeError: the model was changed by others since it was patched.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16))
        >>> patch(model) is model
        True
    """
    transformer = gpt2_inside(model)
    current = _patch_of(transformer)
    if current is not None:
        _require_our_layers(transformer)
        current.fused = fused
    else:
        _replace_attention(transformer, fused)
    for generator in generators_inside(model):
        previous = generator.__dict__.get(_PREPARE)
        if not isinstance(previous, PatchedCachePreparation):
            generator.__dict__[_PREPARE] = PatchedCachePreparation(generator, previous)
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
    forward = _patch_of(transformer)
    if forward is not None:
        for block, original in zip(blocks_of(transformer), forward.originals, strict=True):
            if isinstance(block.attn, MaskedGPT2Attention):
                # Copies and pickles of a patched model no longer share the dict.
                object.__setattr__(original, "__dict__", block.attn.__dict__)
                hand_over_forward(block.attn, original)
                block.attn = original
        _restore_forward(transformer, forward.previous)
    for generator in generators_inside(model):
        _unpatch_cache_preparation(generator)
    return model


@contextmanager
def patched(model: Model, *, fused: bool = True) -> Iterator[Model]:
    """Patch within a ``with`` block; a model that was patched before stays as it was.

    Args:
        model: see ``patch``.
        fused: see ``patch``.

    Yields:
        ``model`` itself.
    """
    before = _patch_of(gpt2_inside(model))
    was_fused = None if before is None else before.fused
    unprepared = [
        generator
        for generator in generators_inside(model)
        if not isinstance(generator.__dict__.get(_PREPARE), PatchedCachePreparation)
    ]
    patch(model, fused=fused)
    try:
        yield model
    finally:
        if was_fused is None:
            unpatch(model)
        else:
            patch(model, fused=was_fused)
            for generator in unprepared:  # only a part was patched, as the ``transformer``
                _unpatch_cache_preparation(generator)


def paths(model: torch.nn.Module) -> dict[int, str]:
    """Which attention each layer ran last, by layer number; empty when not patched or not yet run.

    The names are ``"cached_attention"``, ``"masked_attention"``, ``"textbook"`` and ``"stock"``.
    """
    forward = _patch_of(gpt2_inside(model))
    return {} if forward is None else dict(sorted(forward.paths.items()))


def _patch_of(transformer: GPT2Model) -> PatchedForward | None:
    """The patch of this model, also beneath a hook of accelerate."""
    forward = transformer.__dict__.get(forward_slot(transformer))
    if isinstance(forward, PatchedForward):
        return forward
    if any(isinstance(block.attn, MaskedGPT2Attention) for block in blocks_of(transformer)):
        raise RuntimeError("forward of the model was wrapped or lost after patch; undo that first")
    return None


def _replace_attention(transformer: GPT2Model, fused: bool) -> None:
    for number, layer in enumerate(transformer.h):
        require_own_block(layer, number)
    originals = [block.attn for block in transformer.h]
    for block, original in zip(transformer.h, originals, strict=True):
        block.attn = MaskedGPT2Attention.sharing(original)
        hand_over_forward(original, block.attn)
    slot = forward_slot(transformer)
    previous = transformer.__dict__.get(slot)
    transformer.__dict__[slot] = PatchedForward(transformer, originals, previous, fused)


def _require_our_layers(transformer: GPT2Model) -> None:
    if not all(isinstance(block.attn, MaskedGPT2Attention) for block in transformer.h):
        raise RuntimeError("attention modules were replaced after patch; unpatch, then patch again")


def _unpatch_cache_preparation(model: PreTrainedModel) -> None:
    prepare = model.__dict__.get(_PREPARE)
    if isinstance(prepare, PatchedCachePreparation):
        _restore(model, _PREPARE, prepare.previous)


def _restore_forward(transformer: GPT2Model, previous: Callable[..., Any] | None) -> None:
    slot = forward_slot(transformer)
    if previous is None and slot != "forward":  # a hook put on after patch needs what it wraps
        previous = type(transformer).forward.__get__(transformer)
    _restore(transformer, slot, previous)


def _restore(module: torch.nn.Module, name: str, previous: Callable[..., Any] | None) -> None:
    if previous is None:
        del module.__dict__[name]
    else:
        module.__dict__[name] = previous


_LAYER = ("hidden_states", "past_key_values", "attention_mask", "encoder_hidden_states")
require_parameters(GPT2Attention.forward, _LAYER, "GPT2Attention.forward")
_PREPARED = ("generation_config", "model_kwargs", "generation_mode", "max_cache_length")
require_parameters(getattr(GenerationMixin, _PREPARE), _PREPARED, _PREPARE)
