"""What is refused, in the words of flash-attn: its functions, its arguments, its layouts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["has_shape", "is_integer", "refuse", "refuse_dropout", "refuse_gradient"]


def refuse(function: str, message: str) -> None:
    raise RuntimeError(f"{function}: {message}")


def refuse_dropout(function: str, dropout_p: float) -> None:
    if dropout_p != 0.0:
        refuse(function, f"dropout is not supported, got dropout_p = {dropout_p}")


def refuse_gradient(function: str, **arguments: Tensor | None) -> None:
    """Raise for an argument that wants a gradient; the operators have none yet."""
    if not torch.is_grad_enabled():
        return
    for name, tensor in arguments.items():
        if tensor is not None and tensor.requires_grad:
            refuse(
                function,
                f"no gradient yet, but {name} requires one: call it under torch.no_grad(), or "
                "detach the arguments",
            )


def has_shape(
    function: str, name: str, tensor: Tensor, layout: str, sizes: tuple[int | None, ...]
) -> None:
    """``sizes`` are in the order of ``layout``; None is any size."""
    shape = tuple(tensor.shape)
    fits = len(shape) == len(sizes) and all(
        size is None or size == found for size, found in zip(sizes, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        refuse(function, f"{name} must be {layout} = [{wanted}], got {list(shape)}")


def is_integer(function: str, name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.dtype not in (torch.int32, torch.int64):
        refuse(function, f"{name} must be int32 or int64, got {tensor.dtype}")
    if tensor.device != device:
        refuse(function, f"{name} must be on {device}, the device of q, got {tensor.device}")
