"""Linear layers of a token step: few rows against a weight that is read once, where it lies."""

from __future__ import annotations

from torch import Tensor

from . import _library
from .functional._ops import ops

__all__ = ["MAX_ROWS", "skinny_linear"]

# More rows than this get torch's own product.
MAX_ROWS: int = _library.load().skinny_rows


def skinny_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, transposed: bool = False
) -> Tensor:
    """``input @ weight.T + bias`` at the speed of reading ``weight``, for up to 32 rows on a CPU.

    A row has the same bits in every batch of up to 32 rows, whatever its neighbours and the number
    of threads are (on one instruction set and one layout of the weight). Sums are float32 (float64
    for float64). More rows, and other devices, get torch's own product.

    Args:
        input: ``[..., inputs]``, float32, float64, float16 or bfloat16.
        weight: ``[outputs, inputs]`` as in ``nn.Linear``; dtype of ``input``, or float16/bfloat16
            beside a float32 ``input``. It is read in place if one of its dimensions is contiguous.
        bias: ``[outputs]``, dtype of ``weight``.
        transposed: the weight is ``[inputs, outputs]``, as in ``Conv1D`` of transformers.

    Returns:
        ``[..., outputs]`` of the dtype of ``input``. In an autocast region all arguments are cast
        to its dtype first, as for ``torch.nn.functional.linear``.

    Raises:
        RuntimeError: unsupported dtype, device or shape, or an argument that requires grad.

    Example:
        >>> import torch
        >>> skinny_linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[3., 7.]])
        >>> skinny_linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), transposed=True)
        tensor([[4., 6.]])
    """
    result: Tensor = ops.skinny_linear(input, weight, bias, transposed=transposed)
    return result
