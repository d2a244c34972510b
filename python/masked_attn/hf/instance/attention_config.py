"""The config that the attention modules of a patched model see: their own, but for one answer.

A stock layer asks its config which attention runs. Configs are shared between models and are never
written, so each attention module of a patched model holds this view of its config instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["AttentionConfig"]


class AttentionConfig:
    """A config that says ``"masked_attn"`` when asked for the attention, and else what it views.

    Args:
        original: the config that the module held; ``unpatch`` puts it back.
        eager: the eager attention of the module's file, which stock code falls back to.
        number: the layer's, by which ``report`` knows it.
        cross: whether this is cross attention.
        keywords: whether the layer hands keywords on to it.
    """

    __slots__ = ("cross", "eager", "keywords", "number", "original")

    _attn_implementation = "masked_attn"

    def __init__(
        self,
        original: Any,
        eager: Callable[..., Any],
        number: int,
        *,
        cross: bool,
        keywords: bool = True,
    ) -> None:
        self.original = original
        self.eager = eager
        self.number = number
        self.cross = cross
        self.keywords = keywords

    def __getattr__(self, name: str) -> Any:
        # Copies and pickles ask for special methods before there is an original.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.original, name)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
