"""Linear layers whose rows have the same bits in every batch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ._ops import ops

__all__ = ["Activation", "linear"]

Activation = Literal["gelu_tanh", "gelu", "silu", "relu"]


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    transposed: bool = False,
    activation: Activation | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """``activation(input @ weight.T + bias) * multiplier``, the same for a row in every batch.

    On a CPU a row has the same bits whatever the other rows, their number and the number of threads
    are (on one instruction set, for one dtype and one layout of the weight). Other devices get
    torch's own products. Sums, and what follows them, are float32 (float64 for float64); only the
    result is rounded to the dtype of ``input``.

    Args:
        input: ``[..., inputs]``, float32, float64, float16 or bfloat16.
        weight: ``[outputs, inputs]`` as in ``nn.Linear``; dtype of ``input``, or float16/bfloat16
            beside a float32 ``input``. It is read in place if one of its dimensions is contiguous.
        bias: ``[outputs]``, dtype of ``weight``.
        transposed: the weight is ``[inputs, outputs]``, as in ``Conv1D`` of transformers.
        activation: ``"gelu_tanh"`` and ``"gelu"`` (Hendrycks and Gimpel 2016, section 2; the first
            is the approximation by tanh), ``"silu"`` (``x / (1 + exp(-x))``) or ``"relu"``.
        multiplier: ``[..., outputs]``, dtype of ``input``: a gated layer is
            ``linear(x, gate, activation="silu", multiplier=linear(x, up))``.

    Returns:
        ``[..., outputs]`` of the dtype of ``input``. In an autocast region all arguments are cast
        to its dtype first, as for ``torch.nn.functional.linear``.

    Raises:
        RuntimeError: unsupported dtype, device or shape, an unknown activation, or an argument that
            requires grad.

    Example:
        >>> import torch
        >>> linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[3., 7.]])
        >>> linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), activation="relu")
        tensor([[3., 0.]])
    """
    result: Tensor = ops.linear(
        input,
        weight,
        bias,
        transposed=transposed,
        activation=activation,
        multiplier=multiplier,
    )
    return result
