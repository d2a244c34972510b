"""A mask with a sliding window that is not written out, and reads as one that is.

Layers hand it on as it came, so attention gets key mask and window. Whoever calculates with it, or
writes to it, has the dense mask, which is made then; from there on that is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ...reference import visible

__all__ = ["WindowMask"]

aten = torch.ops.aten


class WindowMask(Tensor):
    """Bool ``[batch, 1, queries, keys]``, True = may be seen; the last query is the last key.

    Attributes:
        key_mask: bool ``[batch, keys]``.
        window: as in ``masked_attention``.
        causal: as in ``masked_attention``.
        written: the dense mask, once somebody needed it.
    """

    key_mask: Tensor
    window: int
    causal: bool
    written: Tensor | None

    @staticmethod
    def __new__(
        cls: type[WindowMask], key_mask: Tensor, queries: int, window: int, causal: bool
    ) -> WindowMask:
        batch, keys = key_mask.shape
        mask: WindowMask = torch.Tensor._make_wrapper_subclass(
            cls, (batch, 1, queries, keys), dtype=torch.bool, device=key_mask.device
        )
        mask.key_mask, mask.window, mask.causal, mask.written = key_mask, window, causal, None
        return mask

    def dense(self) -> Tensor:
        """The same as an ordinary tensor: the same one each time, except while it is traced."""
        if self.written is not None:
            return self.written
        masks: dict[str, Any] = {"key_mask": self.key_mask, "device": self.device}
        # A view of this mask must be one of the same kind as what it shows.
        with torch.inference_mode(self.is_inference()):
            seen = visible(*self.shape, causal=self.causal, window=self.window, **masks)
        if type(self.key_mask) is Tensor:
            self.written = seen
        return seen

    def __repr__(self) -> str:  # type: ignore[override]
        shape, window, causal = list(self.shape), self.window, self.causal
        return f"WindowMask(shape={shape}, window={window}, causal={causal})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        mask = args[0] if args and isinstance(args[0], cls) else None
        if mask is not None and _copies(func, kwargs):
            copy = cls(func(mask.key_mask, **kwargs), mask.shape[2], mask.window, mask.causal)
            copy.written = None if mask.written is None else func(mask.written, **kwargs)
            return copy
        if mask is not None and func._schema.is_mutable and type(mask.key_mask) is not Tensor:
            raise RuntimeError("masked_attn: a compiled graph cannot write to a WindowMask")
        to_dense: Callable[[WindowMask], Tensor] = cls.dense
        result = func(*tree_map_only(cls, to_dense, args), **tree_map_only(cls, to_dense, kwargs))
        # What writes to its first argument returns that argument.
        return mask if mask is not None and result is mask.written else result

    def __tensor_flatten__(self) -> tuple[list[str], tuple[int, int, bool]]:
        inner = ["key_mask"] if self.written is None else ["key_mask", "written"]
        return inner, (self.shape[2], self.window, self.causal)

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor], said: tuple[int, int, bool], size: Any, stride: Any
    ) -> WindowMask:
        mask = WindowMask(inner["key_mask"], *said)
        mask.written = inner.get("written")
        return mask


def _copies(func: Any, kwargs: dict[str, Any]) -> bool:
    """Whether ``func`` gives the same mask, perhaps on another device."""
    if func is aten._to_copy.default:
        return kwargs.get("dtype") in (None, torch.bool)
    return func in (aten.detach.default, aten.clone.default)
