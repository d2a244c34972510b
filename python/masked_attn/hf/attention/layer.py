"""The noun Layer: what a layer says of its attention, apart from masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Layer"]


@dataclass(frozen=True)
class Layer:
    """What a layer says of its attention, apart from masks.

    Attributes:
        module: the attention module.
        scale: factor of the scores; None means ``head_dim ** -0.5``.
        dropout: probability of dropping a weight.
        window: sliding window, in keys.
        softcap: bound of the scores; None bends none.
        sinks: ``[heads]``, a score of each head that takes weight and gives no value.
    """

    module: nn.Module
    scale: float | None
    dropout: float
    window: int | None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether attention of torch knows all that the layer says."""
        return self.softcap is None and self.sinks is None

    def said(self) -> dict[str, Any]:
        """The same in the words in which layers of transformers say it."""
        where = {"dropout": self.dropout, "sliding_window": self.window}
        return _given(scaling=self.scale, softcap=self.softcap, s_aux=self.sinks, **where)

    def scores(self) -> dict[str, Any]:
        """Keywords of the operators about scores."""
        return _given(scale=self.scale, softcap=self.softcap, sinks=self.sinks)


def _given(**words: Any) -> dict[str, Any]:
    return {name: word for name, word in words.items() if word is not None}
