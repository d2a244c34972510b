"""The mean of ``sentence_transformers`` over the real tokens of a sentence, whatever its padding.

The surprise: it is our attention, with scores that are all zero. torch's sum over the padded length
adds in an order that depends on where the sentence begins, and takes another one for the last
columns of a narrow model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...functional import masked_attention
from ..call.visibility import has_tangent, wants_grad
from ..instance.forward_slot import ForwardOverride, put_on, runs_stock_forward, take_off
from .linear import DTYPES, PLAIN
from .scope import modules_around

__all__ = ["ExactMean", "fuse_pooling", "restore_pooling"]

# With one of these among its features, ``Pooling`` does something else.
OTHERWISE = ("cu_seq_lens_q", "token_weights_sum")
# What versions before 6 have in place of ``pooling_mode``.
FLAGS = "pooling_mode_"
MEAN_FLAG = "pooling_mode_mean_tokens"


class ExactMean(ForwardOverride[Any]):
    """``forward`` of a ``Pooling`` of ``sentence_transformers`` that takes the mean."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        features = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(features, dict) or not _takes(self.model, features):
            return self.beneath("forward")(*args, **kwargs)
        hidden, mask = features["token_embeddings"], features["attention_mask"]
        features["sentence_embedding"] = mean_of_visible(hidden, mask.bool())
        return features


def mean_of_visible(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of the visible tokens of each row, 0 for a row without any.

    Args:
        hidden: ``[batch, tokens, features]``.
        mask: bool ``[batch, tokens]``, True = counts.

    Returns:
        ``[batch, features]`` of the dtype of ``hidden``.
    """
    batch, tokens, _ = hidden.shape
    query, key = hidden.new_zeros(batch, 1, 1, 1), hidden.new_zeros(batch, 1, tokens, 1)
    return masked_attention(query, key, hidden[:, None], key_mask=mask)[:, 0, 0]


def fuse_pooling(model: nn.Module, backbone: nn.Module) -> None:
    """Give every ``Pooling`` around the backbone our forward. Twice is once.

    Args:
        model: the backbone or any module around it.
        backbone: modules of other models beside this one stay.
    """
    for module in modules_around(model, backbone):
        kind = type(module)
        theirs = kind.__module__.partition(".")[0] == "sentence_transformers"
        if theirs and kind.__qualname__ == "Pooling" and runs_stock_forward(module):
            put_on(module, ExactMean)


def restore_pooling(model: nn.Module) -> None:
    """Take our forward away again."""
    take_off(model, ExactMean)


def _takes(pooling: nn.Module, features: dict[str, Any]) -> bool:
    """Whether it is a plain mean over the tokens of a mask."""
    hidden: Any = features.get("token_embeddings")
    mask: Any = features.get("attention_mask")
    if type(hidden) not in PLAIN or type(mask) not in PLAIN or not _is_mean(pooling):
        return False
    if any(name in features for name in OTHERWISE) or not getattr(pooling, "include_prompt", True):
        return False
    if mask.is_floating_point() or hidden.shape[:-1] != mask.shape or hidden.dim() != 3:
        return False
    if not hidden.is_cpu or hidden.dtype not in DTYPES or wants_grad(hidden):
        return False
    return torch.compiler.is_compiling() or not has_tangent(hidden)


def _is_mean(pooling: nn.Module) -> bool:
    state = pooling.__dict__
    if "pooling_mode" in state:
        return bool(state["pooling_mode"] == "mean")
    return [name for name in state if name.startswith(FLAGS) and state[name]] == [MEAN_FLAG]
