"""The noun ModelFamily: what ``patch`` has to know of one kind of model, as data.

Names are those in the modeling file of the installed transformers; nothing is imported before it is
needed, so a family that an installed version does not have costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from torch import nn

__all__ = ["ModelFamily", "from_zero", "module_at"]


def nothing_refused(config: Any) -> str | None:
    """The rule of a family of which every config is known."""
    return None


def from_zero(backbone: Any) -> int:
    """Positions of most models: the first token has 0."""
    return 0


@dataclass(frozen=True)
class ModelFamily:
    """One kind of model: where its parts are, and what they mean.

    Attributes:
        name: for messages.
        folder: of the family in ``transformers.models``.
        type_name: ``model_type`` of its configs, where that is not the folder.
        backbone: class of the model without heads, whose ``forward`` is stood in for.
        layers: path from the backbone to its list of layers.
        layer: class of a layer.
        attention: path from a layer to its self-attention.
        attention_class: class of the self-attention.
        cross_attention: the same path for cross attention, if a layer may have one; of the same
            class.
        cache: what layers call their cache, where that is not what the model calls it.
        keywords: whether layers hand keywords that they do not know on to their attention.
        causal: whether a token sees what comes before it only.
        folds_leading: whether ids of any number of dimensions are rows.
        first_position: position of the first token of a row, from the backbone.
        counts_ids: whether positions count the ids that are no pad, whatever the mask says.
        counts_mask: whether positions count the real tokens of the mask, and pads have -1.
        parts_jumps: whether positions that jump part a row into sequences.
        dropout: attribute of an attention module with the probability of dropping a weight.
        pooler: attribute of the backbone that makes ``pooler_output`` of the first slots.
        router: entry of the result with a row for each token, where layers choose experts. How
            many tokens an expert gets depends on the batch, and so do the bits of a row.
        refused: why a config is not one that is known here, or None.
    """

    name: str
    folder: str
    backbone: str
    layers: str
    layer: str
    attention: str
    attention_class: str
    cross_attention: str | None = None
    type_name: str | None = None
    cache: str | None = None
    keywords: bool = True
    causal: bool = True
    folds_leading: bool = False
    first_position: Callable[[Any], int] = from_zero
    counts_ids: bool = False
    counts_mask: bool = False
    parts_jumps: bool = True
    dropout: str = "attention_dropout"
    pooler: str | None = None
    router: str | None = None
    refused: Callable[[Any], str | None] = nothing_refused

    @property
    def model_type(self) -> str:
        """What configs of the family say of themselves."""
        return self.type_name or self.folder

    @property
    def module_name(self) -> str:
        """The modeling file."""
        return f"transformers.models.{self.folder}.modeling_{self.folder}"

    @cached_property
    def backbone_class(self) -> type[nn.Module]:
        found: type[nn.Module] = getattr(import_module(self.module_name), self.backbone)
        return found

    @cached_property
    def layer_class(self) -> type[nn.Module]:
        found: type[nn.Module] = getattr(import_module(self.module_name), self.layer)
        return found

    @cached_property
    def attention_type(self) -> type[nn.Module]:
        found: type[nn.Module] = getattr(import_module(self.module_name), self.attention_class)
        return found

    @property
    def eager_attention(self) -> Callable[..., Any]:
        """The attention that stock layers fall back to."""
        found: Callable[..., Any] = import_module(self.module_name).eager_attention_forward
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of a patched model name their family: it holds classes by now."""
        return _family_named, (self.name,)

    @property
    def attentions(self) -> tuple[str, ...]:
        """Paths from a layer to the attention modules that it may have."""
        return tuple(path for path in (self.attention, self.cross_attention) if path is not None)

    def layers_of(self, backbone: nn.Module) -> nn.ModuleList:
        """The layers, in the order in which they run."""
        found = module_at(backbone, self.layers)
        assert isinstance(found, nn.ModuleList)
        return found

    def drops_weights(self, attention: nn.Module) -> bool:
        """Whether an attention module drops weights now."""
        held: Any = getattr(attention, self.dropout)
        probability = held.p if isinstance(held, nn.Dropout) else held
        return attention.training and probability > 0.0


def module_at(module: nn.Module, path: str) -> nn.Module | None:
    """What a path of attributes leads to; None where one of them is missing."""
    found: nn.Module | None = module
    for name in path.split("."):
        if found is None:
            return None
        found = found._modules.get(name)
    return found


def _family_named(name: str) -> ModelFamily:
    from .registry import FAMILIES

    return next(family for family in FAMILIES if family.name == name)
