"""Log-probabilities of the tokens of a batch, from one pass over it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from masked_attn.masks import positions_from_mask

__all__ = ["score_batch"]

LOGITS_AT_ONCE = 2**23  # 32 MiB in float32: the logits of a whole batch may be gigabytes


@torch.inference_mode()
def score_batch(model: Any, ids: Tensor, mask: Tensor) -> list[list[float]]:
    """Log-probability of every real token but the first of its row, given those before it.

    Args:
        model: a decoder with a language-model head, patched or not.
        ids: ``[batch, length]`` int64, padded on any side.
        mask: ``[batch, length]`` bool or 0/1, nonzero = real token; at least one in each row.

    Returns:
        For each row one natural logarithm less than it has tokens.
    """
    hidden = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_from_mask(mask),
        use_cache=False,
    ).last_hidden_state
    real = mask != 0
    lengths = real.sum(-1).tolist()
    hidden, targets = hidden[real], ids[real]  # [tokens, E], [tokens]: the rows back to back
    ends = torch.tensor(lengths).cumsum(0)
    predicts = torch.ones(len(targets), dtype=torch.bool)
    predicts[ends - 1] = False  # nothing follows the last token of a row
    predicted = predicts.roll(1)
    losses = _losses(model, hidden[predicts], targets[predicted])
    return [row.neg().tolist() for row in losses.split([length - 1 for length in lengths])]


def _losses(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihoods; the logits of a few tokens at a time, as stock code rounds them."""
    step = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    dtype = torch.promote_types(model.dtype, torch.float32)
    pieces = [
        cross_entropy(_logits(model, some).to(dtype), wanted, reduction="none")
        for some, wanted in zip(hidden.split(step), targets.split(step), strict=True)
    ]
    return torch.cat(pieces) if pieces else hidden.new_empty(0)


def _logits(model: Any, hidden: Tensor) -> Tensor:
    """The head, and what Granite (a division) and Gemma (a bend) do to its result."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    scaling = getattr(model.config, "logits_scaling", None)
    cap = getattr(model.config, "final_logit_softcapping", None)
    logits = logits if scaling is None else logits / scaling
    return logits if cap is None else torch.tanh(logits / cap) * cap
