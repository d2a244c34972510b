"""Preallocated keys and values of one attention layer, written in place. Torch only.

The surprise: views handed out earlier are overwritten when slots are reused (after ``crop``,
``clear`` or ``select``). Clone what must be kept. Tensors that were assigned, and what was there
before an assignment, are never written: the next write copies them into memory of the buffer.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["KVBuffer"]

MIN_CAPACITY = 64


class KVBuffer:
    """Keys and values ``[batch, kv_heads, capacity, head_dim]``, filled up to ``length``.

    Args:
        capacity: slots to allocate at first; more are added by doubling. ``None`` means as many as
            the first write needs, and at least 64.
        dtype: storage dtype; ``None`` means that of the first keys and values.

    Example:
        >>> buffer = KVBuffer(capacity=8)
        >>> keys, values = buffer.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
        >>> keys.shape, buffer.capacity
        (torch.Size([1, 2, 3, 4]), 8)
    """

    def __init__(self, capacity: int | None = None, dtype: torch.dtype | None = None) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"KVBuffer: capacity must be at least 1, got {capacity}")
        self.hint = capacity
        self.dtype = dtype
        self.length = 0
        self._key: Tensor | None = None
        self._value: Tensor | None = None
        self._spare: tuple[Tensor, Tensor] | None = None
        # Keys and values are as long as they are, and others hold them, too: they are only read.
        self._borrowed = False

    @property
    def capacity(self) -> int:
        """Slots that are allocated."""
        return self.length if self._key is None or self._borrowed else self._key.shape[2]

    @property
    def keys(self) -> Tensor | None:
        """View ``[batch, kv_heads, length, head_dim]`` of the filled slots, or None.

        Can be assigned, and then ``values``: other tokens, rows or heads, an empty tensor, or None.
        The tensor is held in the dtype of what it takes the place of and copied by the next write,
        before which both must fit. ``length`` is that of the keys.

        Raises:
            TypeError: what is assigned is no tensor.
            ValueError: it has not four dimensions.
        """
        return self._key if self._borrowed or self._key is None else self._key[:, :, : self.length]

    @keys.setter
    def keys(self, keys: Tensor | None) -> None:
        held = self._as_stored("keys", self.keys, keys)
        self._borrow(held, self.values)

    @property
    def values(self) -> Tensor | None:
        """View ``[batch, kv_heads, length, value_dim]``; can be assigned like ``keys``."""
        if self._borrowed or self._value is None:
            return self._value
        return self._value[:, :, : self.length]

    @values.setter
    def values(self, values: Tensor | None) -> None:
        held = self._as_stored("values", self.values, values)
        self._borrow(self.keys, held)

    @property
    def requires_grad(self) -> bool:
        """Whether the filled slots take part in autograd."""
        return any(held is not None and held.requires_grad for held in (self._key, self._value))

    def storage_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype in which keys of ``dtype`` that come next are stored."""
        if self._key is not None and self.length > 0:
            return self._key.dtype
        return self.dtype or dtype

    def reserve(self, new_key: Tensor, new_value: Tensor) -> tuple[Tensor, Tensor, int]:
        """Make room for new keys and values without writing them.

        Args:
            new_key: ``[batch, kv_heads, queries, head_dim]``.
            new_value: ``[batch, kv_heads, queries, value_dim]``.

        Returns:
            The whole key buffer, the whole value buffer, and the first free slot. What autograd
            holds is copied and detached: test ``requires_grad`` first.

        Raises:
            ValueError: keys and values do not fit each other, or the buffer holds others: another
                batch, head count, head size or device. Or those assigned do not fit each other.
        """
        _check_pair(new_key, new_value)
        if self._borrowed:
            self._check_assigned()
        needed = self.length + new_key.shape[2]
        if self._key is None or self._value is None or self._stale(new_key, new_value):
            capacity = self._first_capacity(needed)
            pair = self._empty_like(new_key, capacity), self._empty_like(new_value, capacity)
            self._key, self._value, self._spare, self._borrowed = *pair, None, False
            return *pair, self.length
        _check_held("keys", self._key, new_key)
        _check_held("values", self._value, new_value)
        if needed > self.capacity:
            # Less than at first are those that were assigned, or that a graph holds.
            first = self._first_capacity(0)
            self._move_to_new_memory(first if needed <= first else max(needed, 2 * self.capacity))
        elif self._borrowed or _frozen(self._key) or _frozen(self._value):
            self._move_to_new_memory(self.capacity)
        return self._key, self._value, self.length

    def advance(self, queries: int) -> None:
        """Count ``queries`` slots after ``reserve`` as filled: the caller has written them."""
        if queries < 0:
            raise ValueError(f"KVBuffer: queries must not be negative, got {queries}")
        if self.length + queries > self.capacity:
            raise ValueError(f"KVBuffer: {self.length} + {queries} slots, capacity {self.capacity}")
        self.length += queries

    def append(self, new_key: Tensor, new_value: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the filled slots and return views of all of them.

        Where autograd records, the result is a concatenation: writing in place would break it.
        A call that fails leaves the filled slots as they were.

        Args:
            new_key: ``[batch, kv_heads, queries, head_dim]``.
            new_value: ``[batch, kv_heads, queries, value_dim]``.

        Raises:
            ValueError: as ``reserve``.
        """
        _check_pair(new_key, new_value)
        wants_grad = new_key.requires_grad or new_value.requires_grad or self.requires_grad
        if torch.is_grad_enabled() and wants_grad:
            if self._borrowed:
                self._check_assigned()
            return self._concatenate(new_key, new_value)
        key, value, position = self.reserve(new_key, new_value)
        end = position + new_key.shape[2]
        key[:, :, position:end].copy_(new_key)
        value[:, :, position:end].copy_(new_value)
        self.advance(new_key.shape[2])
        return key[:, :, : self.length], value[:, :, : self.length]

    def crop(self, length: int) -> None:
        """Forget the slots from ``length`` on; the memory stays."""
        self.length = max(0, min(length, self.length))
        if self._borrowed and self._key is not None and self._value is not None:
            self._borrow(self._key[:, :, : self.length], self._value[:, :, : self.length])

    def clear(self) -> None:
        """Forget every slot; the memory stays."""
        if self._borrowed:
            self._key = self._value = None
            self._borrowed = False
        self.length = 0

    def select(self, rows: Tensor) -> None:
        """Make ``rows`` of the batch the new batch, in that order; the capacity stays.

        Args:
            rows: int64 ``[new_batch]``, repetitions allowed.
        """
        if self._key is None or self.length == 0:
            return
        rows = rows.to(self._key.device)
        if self._borrowed or (torch.is_grad_enabled() and self.requires_grad):
            key, value = (
                None if held is None else held.index_select(0, rows)
                for held in (self.keys, self.values)
            )
            self._borrow(key, value)
            return
        old, new = self._pair(), self._spare
        if new is None or new[0].shape[0] != rows.numel() or _frozen(new[0]):
            key, value = (held.new_empty((rows.numel(), *held.shape[1:])) for held in old)
            new = (key, value)
        for source, target in zip(old, new, strict=True):
            filled = source.detach()[:, :, : self.length]
            torch.index_select(filled, 0, rows, out=target[:, :, : self.length])
        reusable = rows.numel() == old[0].shape[0] and not _frozen(old[0])
        self._key, self._value = new
        self._spare = old if reusable else None

    def to(self, device: torch.device | str) -> None:
        """Move the buffers to ``device``."""
        self._key, self._value = (
            None if held is None else held.to(device) for held in (self._key, self._value)
        )
        self._spare = None

    def _borrow(self, key: Tensor | None, value: Tensor | None) -> None:
        """Hold tensors that are not ours to write, and none of our memory: it may be viewed."""
        self._key, self._value, self._spare, self._borrowed = key, value, None, True
        self.length = 0 if key is None or key.ndim != 4 else key.shape[2]

    def _as_stored(self, name: str, held: Tensor | None, new: Tensor | None) -> Tensor | None:
        if new is None:
            return None
        if not isinstance(new, Tensor):
            raise TypeError(f"KVBuffer: {name} must be a tensor or None, got {type(new).__name__}")
        if new.ndim != 4 and new.numel() > 0:
            raise ValueError(
                f"KVBuffer: {name} must be [batch, kv_heads, tokens, head_dim], "
                f"got {list(new.shape)}"
            )
        kept = new.dtype if held is None or held.numel() == 0 else held.dtype
        return new.to(self.dtype or kept)

    def _check_assigned(self) -> None:
        """Keys and values are assigned one after the other; before a write they must fit."""
        pair = self._key, self._value
        fits = {(h.shape[:3], h.device) for h in pair if h is not None and h.numel() > 0}
        if len(fits) > 1 or (fits and None in pair):
            shapes = [None if held is None else list(held.shape) for held in pair]
            raise ValueError(
                f"KVBuffer: the assigned keys {shapes[0]} and values {shapes[1]} do not fit each "
                "other in batch, heads, tokens or device; assign both"
            )

    def _pair(self) -> tuple[Tensor, Tensor]:
        assert self._key is not None
        assert self._value is not None
        return self._key, self._value

    def _stale(self, new_key: Tensor, new_value: Tensor) -> bool:
        """Empty memory that another kind of keys or values left behind."""
        if self.length > 0:
            return False
        if self._borrowed:
            return True
        key, value = self._pair()
        same_kind = key.device == new_key.device and key.dtype == (self.dtype or new_key.dtype)
        return not (same_kind and _same_rows(key, new_key) and _same_rows(value, new_value))

    def _first_capacity(self, needed: int) -> int:
        return max(needed, MIN_CAPACITY if self.hint is None else self.hint)

    def _empty_like(self, new: Tensor, capacity: int) -> Tensor:
        shape = (new.shape[0], new.shape[1], capacity, new.shape[3])
        return torch.empty(shape, dtype=self.dtype or new.dtype, device=new.device)

    def _move_to_new_memory(self, capacity: int) -> None:
        old = self._pair()
        # Both are there before one is taken, should the memory not suffice.
        new = [self._empty_like(held, capacity) for held in old]
        for source, target in zip(old, new, strict=True):
            target[:, :, : self.length].copy_(source.detach()[:, :, : self.length])
        (self._key, self._value), self._spare, self._borrowed = new, None, False

    def _concatenate(self, new_key: Tensor, new_value: Tensor) -> tuple[Tensor, Tensor]:
        key, value = new_key, new_value
        if self.length:
            _check_held("keys", self._pair()[0], new_key)
            _check_held("values", self._pair()[1], new_value)
            old_key, old_value = (held[:, :, : self.length] for held in self._pair())
            key = torch.cat([old_key.to(key.dtype), key], dim=2)
            value = torch.cat([old_value.to(value.dtype), value], dim=2)
        self._borrow(key, value)
        return key, value


def _same_rows(key: Tensor, new_key: Tensor) -> bool:
    return key.shape[:2] == new_key.shape[:2] and key.shape[3] == new_key.shape[3]


def _check_pair(new_key: Tensor, new_value: Tensor) -> None:
    """Without it, a value of one token or one head would be copied to all of them."""
    for name, new in (("new_key", new_key), ("new_value", new_value)):
        if new.ndim != 4:
            raise ValueError(
                f"KVBuffer: {name} must be [batch, kv_heads, queries, head_dim], "
                f"got {list(new.shape)}"
            )
    if new_value.shape[:3] != new_key.shape[:3]:
        raise ValueError(
            f"KVBuffer: new_value must have the batch, heads and tokens of new_key, "
            f"{list(new_key.shape[:3])}, got {list(new_value.shape)}"
        )
    # Their dtypes may differ: in an autocast region a norm of the keys can give them another.
    if new_value.device != new_key.device:
        raise ValueError(
            f"KVBuffer: new_value must be on the device of new_key, {new_key.device}, "
            f"got {new_value.device}"
        )


def _check_held(name: str, held: Tensor, new: Tensor) -> None:
    if not _same_rows(held, new):
        raise ValueError(
            f"KVBuffer: holds {name} {list(held.shape)}, got {list(new.shape)}; "
            "reset the cache first"
        )
    if held.device != new.device:
        raise ValueError(
            f"KVBuffer: holds {name} on {held.device}, got {new.device}; move them with `to`"
        )


def _frozen(tensor: Tensor) -> bool:
    """A tensor that must not be written in place: autograd holds it, or inference mode made it."""
    return tensor.requires_grad or (tensor.is_inference() and not torch.is_inference_mode_enabled())
