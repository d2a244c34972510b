"""What the queries of one layer may see, in the words of the operators."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.jit import is_tracing  # type: ignore[attr-defined]

from ...functional import expand_mask
from ...reference import position_visible, visible

__all__ = ["Visibility", "has_tangent", "is_masked", "on_host", "wants_grad"]


@dataclass(frozen=True)
class Visibility:
    """Masks of one attention call.

    Attributes:
        keys: only the first ``keys`` slots of the keys count (a static cache hands over all slots).
        key_mask: bool ``[batch, keys]``, True = may be seen.
        attn_mask: bool or float, broadcastable to ``[batch, heads, queries, keys]``.
        causal: bottom-right aligned causal mask.
        window: sliding window, in keys.
        says_all: the windows of layers do not count beside these masks.
    """

    keys: int
    key_mask: Tensor | None = None
    attn_mask: Tensor | None = None
    causal: bool = False
    window: int | None = None
    says_all: bool = False

    @classmethod
    def of_4d(cls, mask: Tensor, batch: int, keys: int, filled: int | None = None) -> Visibility:
        """A ``[batch, heads, queries, keys]`` mask says all that is visible, causality included.

        Where it says no more than a key mask and causality could, these stand for it: the operators
        then know where a row begins, and its bits do not depend on its padding.

        Args:
            mask: bool, True = may be seen, or float, added to the scores.
            batch: rows of the input.
            keys: as in the result.
            filled: keys before the first of the queries; None leaves the mask as it is.
        """
        same_for_all = mask.shape[1] == 1 and (mask.shape[2] == 1 or mask.stride(2) == 0)
        if mask.dtype == torch.bool and same_for_all and mask.shape[0] == batch:
            return cls(keys=keys, key_mask=mask[:, 0, 0, :], says_all=True)
        same_heads = mask.shape[:2] == (batch, 1)
        if (
            filled is not None
            and same_heads
            and on_host(mask)
            and not is_tracing()
            and not wants_grad(mask)
        ):
            key_mask = _key_mask_of(mask[:, 0], filled)
            if key_mask is not None:
                return cls(keys=keys, key_mask=key_mask, causal=True, says_all=True)
        return cls(keys=keys, attn_mask=mask, says_all=True)

    def up_to(self, keys: int) -> Visibility:
        """The same for the first ``keys`` slots; nothing behind them is seen."""
        key_mask = None if self.key_mask is None else self.key_mask[:, :keys]
        return replace(self, keys=keys, key_mask=key_mask)

    def in_layer(self, window: int | None, keys: int) -> Visibility:
        """The same for a layer with a window, and with only the last ``keys`` keys in its cache."""
        key_mask, attn_mask = self.key_mask, self.attn_mask
        if self.says_all:
            window = None
        elif attn_mask is not None and window is not None:
            near = position_visible(
                *attn_mask.shape[-2:], causal=False, window=window, device=attn_mask.device
            )
            return replace(self, attn_mask=attn_mask & near, says_all=True).in_layer(None, keys)
        if window == self.window and keys >= self.keys:
            return self
        if keys >= self.keys:
            return replace(self, window=window)
        key_mask = None if key_mask is None else key_mask[:, -keys:]
        attn_mask = None if attn_mask is None else attn_mask[..., -keys:]
        return replace(self, keys=keys, key_mask=key_mask, attn_mask=attn_mask, window=window)

    def from_position(self, position: Tensor, queries: int) -> Visibility:
        """Causal from slot ``position`` on, which only the device knows, said by a mask."""
        if not self.causal:
            return self
        slots = torch.arange(self.keys, device=position.device)
        last = position + slots[:queries, None]
        mask = (slots <= last)[None, None]
        if self.window is not None:
            mask = mask & (slots > last - self.window)
        if self.key_mask is not None:
            mask = mask & self.key_mask[:, None, None, :]
        return Visibility(keys=self.keys, attn_mask=mask, says_all=True)

    def on(self, device: torch.device) -> Visibility:
        """The same masks on another device: layers may be spread over several."""
        masks = (self.key_mask, self.attn_mask)
        if all(mask is None or mask.device == device for mask in masks):
            return self
        key_mask, attn_mask = (None if mask is None else mask.to(device) for mask in masks)
        return replace(self, key_mask=key_mask, attn_mask=attn_mask)

    def arguments(self) -> dict[str, Any]:
        """Keywords of ``masked_attention``."""
        masks = {"key_mask": self.key_mask, "attn_mask": self.attn_mask}
        return {**masks, "causal": self.causal, "window": self.window}

    def additive(self, query: Tensor) -> Tensor:
        """The masks as one tensor to add to the scores of ``query``."""
        fill = torch.finfo(query.dtype).min
        mask = self.attn_mask
        if mask is not None and mask.dtype != torch.bool:
            return mask if self._is_attn_mask_alone() else self._written_out(mask, query)
        if mask is not None:
            seen = mask if self._is_attn_mask_alone() else self._visible(query)
            return torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, fill)
        key_mask = self.key_mask
        if key_mask is None:
            key_mask = torch.ones(query.shape[0], self.keys, dtype=torch.bool, device=query.device)
        return expand_mask(
            key_mask,
            dtype=query.dtype,
            query_length=query.shape[2],
            causal=self.causal,
            window=self.window,
            fill=fill,
        )

    def dense(self, query: Tensor) -> Tensor | None:
        """The masks as scaled_dot_product_attention takes them; None where its flag says enough."""
        queries = query.shape[2]
        aligned = not self.causal or queries in (1, self.keys)
        mask = self.attn_mask
        if mask is not None and mask.dtype != torch.bool:
            if self._is_attn_mask_alone():
                return mask.masked_fill(is_masked(mask), -math.inf)
            return self._written_out(mask, query)
        if mask is not None and self._is_attn_mask_alone():
            return mask
        if mask is None and self.key_mask is None and self.window is None and aligned:
            return None
        return self._visible(query)

    def _is_attn_mask_alone(self) -> bool:
        return self.key_mask is None and self.window is None and not self.causal

    def _visible(self, query: Tensor) -> Tensor:
        shape = (query.shape[0], 1, query.shape[2], self.keys)
        return visible(*shape, device=query.device, **self.arguments())

    def _written_out(self, bias: Tensor, query: Tensor) -> Tensor:
        """The float mask ``bias`` with -inf wherever something says that a key is not seen."""
        return bias.masked_fill(~self._visible(query), -math.inf)


def on_host(tensor: Tensor) -> bool:
    """Whether a value can be read without waiting for a device or cutting a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def wants_grad(*tensors: Tensor | None) -> bool:
    """Whether autograd records what is computed from ``tensors``."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def has_tangent(*tensors: Tensor | None) -> bool:
    """Whether forward-mode differentiation follows one of ``tensors``."""
    if forward_ad._current_level < 0:  # no level is open: the answer for every layer of a step
        return False
    given = (t for t in tensors if t is not None)
    return any(forward_ad.unpack_dual(t).tangent is not None for t in given)


def is_masked(mask: Tensor) -> Tensor:
    """Where an additive mask says "not seen": the rule of the operators."""
    return mask <= 0.5 * torch.finfo(mask.dtype).min


def _key_mask_of(mask: Tensor, filled: int) -> Tensor | None:
    """The bool ``[batch, keys]`` that with causality means ``mask`` ``[batch, queries, keys]``."""
    seen = mask if mask.dtype == torch.bool else mask == 0
    slots = torch.arange(mask.shape[2])
    causal = slots <= slots[: mask.shape[1], None] + filled
    key_mask = seen[:, -1]
    try:
        if not torch.equal(seen, key_mask[:, None] & causal):
            return None
        adds_nothing = mask.dtype == torch.bool or bool((seen | is_masked(mask)).all())
    except RuntimeError:  # torch.func.vmap, FakeTensorMode and make_fx refuse to tell a value
        return None
    return key_mask if adds_nothing else None
