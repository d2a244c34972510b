"""The noun ForwardCall: the arguments of one forward, bound and read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["ForwardCall"]


@dataclass(frozen=True)
class ForwardCall:
    """One call of a backbone's ``forward``.

    Attributes:
        arguments: all of them by name, the cache as ``past_key_values``.
        ids: ``[batch, tokens]``, perhaps with more leading dimensions.
        embeds: ``[batch, tokens, embed]``.
        inputs: the one of both that was given; None where it was none, or both.
        batch: rows; None without inputs, or where they are empty.
        queries: tokens of each row; None likewise.
        mask: ``attention_mask``, of any kind.
        positions: ``position_ids``.
        cache: ``past_key_values``, of any kind.
    """

    arguments: dict[str, Any]
    ids: Tensor | None
    embeds: Tensor | None
    inputs: Tensor | None
    batch: int | None
    queries: int | None
    mask: Any
    positions: Tensor | None
    cache: Any

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> ForwardCall:
        """Read ``arguments``, which belong to the result from now on."""
        ids, embeds = arguments.get("input_ids"), arguments.get("inputs_embeds")
        inputs = None if ids is not None and embeds is not None else embeds if ids is None else ids
        batch, queries = (None, None) if inputs is None else _size(inputs, ids is not None)
        return cls(
            arguments=arguments,
            ids=ids,
            embeds=embeds,
            inputs=inputs,
            batch=batch,
            queries=queries,
            mask=arguments.get("attention_mask"),
            positions=arguments.get("position_ids"),
            cache=arguments.get("past_key_values"),
        )

    def replaced(self, **changes: Any) -> ForwardCall:
        """The call with other arguments."""
        return ForwardCall.of({**self.arguments, **changes})

    def option(self, name: str, config: Any) -> Any:
        """An argument whose default is in the config."""
        given = self.arguments.get(name)
        return getattr(config, name, None) if given is None else given

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the inputs as tokens: ``[..., tokens]``."""
        assert self.inputs is not None
        return tuple(self.inputs.shape if self.embeds is None else self.inputs.shape[:-1])


def _size(inputs: Tensor, are_ids: bool) -> tuple[int | None, int | None]:
    shape = inputs.shape if are_ids else inputs.shape[:-1]
    if not inputs.numel() or not shape:
        return None, None
    rows = 1
    for size in shape[:-1]:
        rows = rows * size
    return rows, shape[-1]
