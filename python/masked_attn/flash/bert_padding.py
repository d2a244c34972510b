"""Pads taken out and put back, with the arguments and results of ``flash_attn.bert_padding``.

Plain operations of torch, so gradients pass through.
"""

from __future__ import annotations

from torch import Tensor

from ..masks import packed_tokens, real_lengths

__all__ = ["index_first_axis", "index_put_first_axis", "pad_input", "unpad_input"]


def index_first_axis(input: Tensor, indices: Tensor) -> Tensor:
    """The rows ``indices`` of ``input``: ``[rows, ...]``, ``[n]`` -> ``[n, ...]``.

    Example:
        >>> import torch
        >>> index_first_axis(torch.tensor([[1], [2], [3]]), torch.tensor([2, 0]))
        tensor([[3],
                [1]])
    """
    return input[indices]


def index_put_first_axis(values: Tensor, indices: Tensor, first_axis_dim: int) -> Tensor:
    """``values`` ``[n, ...]`` at the rows ``indices`` of ``[first_axis_dim, ...]``; 0 elsewhere.

    Example:
        >>> import torch
        >>> index_put_first_axis(torch.tensor([[7], [8]]), torch.tensor([2, 0]), 3).flatten()
        tensor([8, 0, 7])
    """
    zeros = values.new_zeros(first_axis_dim, *values.shape[1:])
    return zeros.index_put((indices,), values)


def unpad_input(
    hidden_states: Tensor, attention_mask: Tensor, unused_mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, int, Tensor]:
    """Drop the pads of a batch.

    Args:
        hidden_states: ``[batch, seqlen, ...]``.
        attention_mask: ``[batch, seqlen]`` bool or 0/1, 1 = real token.
        unused_mask: ``[batch, seqlen]``, 1 = room that is kept, though nothing is in it.

    Returns:
        ``hidden_states`` of what is kept, ``[tokens, ...]``; ``indices`` ``[tokens]`` int64 into
        the flattened batch; ``cu_seqlens`` ``[batch + 1]`` int32; the longest row, an int; and
        ``seqused`` ``[batch]`` int32, the number of real tokens of each row. (Releases of
        flash-attn before 2.7 return the first four.)

    Example:
        >>> import torch
        >>> mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
        >>> tokens, indices, cu_seqlens, longest, used = unpad_input(torch.ones(2, 3, 4), mask)
        >>> tokens.shape, cu_seqlens, longest, used
        (torch.Size([5, 4]), tensor([0, 2, 5], dtype=torch.int32), 3,
         tensor([2, 3], dtype=torch.int32))
    """
    kept = attention_mask != 0
    if unused_mask is not None:
        kept = kept | (unused_mask != 0)
    packed = packed_tokens(kept)
    return (
        index_first_axis(hidden_states.flatten(0, 1), packed.indices),
        packed.indices,
        packed.cu_seqlens.int(),
        packed.max_seqlen,
        real_lengths(attention_mask).int(),
    )


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """Put the pads back, as zeros: ``[tokens, ...]`` -> ``[batch, seqlen, ...]``.

    Example:
        >>> import torch
        >>> pad_input(torch.tensor([[5], [6]]), torch.tensor([1, 2]), 2, 2)[..., 0]
        tensor([[0, 5],
                [6, 0]])
    """
    padded = index_put_first_axis(hidden_states, indices, batch * seqlen)
    return padded.reshape(batch, seqlen, *padded.shape[1:])
