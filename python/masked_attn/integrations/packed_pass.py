"""One forward of a GPT-2 on its real tokens only: pads are dropped before the embedding.

The blocks run unchanged on ``[1, real tokens, embed]``; what they return gets its pads back, as
zeros, so callers see the shapes of the padded batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.jit import is_tracing  # type: ignore[attr-defined]
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

from .neighbours import shape_reader
from .packing import Packing, make_packing
from .visibility import Visibility

__all__ = ["packing_of", "run_packed"]


def packing_of(
    model: GPT2Model, seen: Visibility, *, queries: int, cache: Any, generates: bool
) -> tuple[Packing | None, str | None]:
    """How to leave out the pads of a forward: None where there are none, or they must stay.

    On a GPU this waits for the device once, to read the mask (twice with a static cache).

    Args:
        model: the model.
        seen: the masks.
        queries: tokens of each row.
        cache: what the caller gave as ``past_key_values``.
        generates: the caller goes on after the last token of each row, whether that is real or not.

    Returns:
        The packing, or why pads are computed although there are some.
    """
    mask = seen.key_mask
    if mask is None or queries == 1 or not seen.causal or not _values_can_be_read(mask):
        return None, None
    filled = 0 if cache is None else int(cache.get_seq_length())
    real = mask[:, filled : filled + queries].cpu()
    packing = make_packing(real, filled)
    if packing is None:
        return None, None
    # There a padded row goes on after its pads: what is computed for them counts.
    if generates and not bool(real[:, -1].all()):
        return None, "a row may be continued after its pads"
    reader = shape_reader(model)
    return (packing.on(mask.device), None) if reader is None else (None, reader)


def _values_can_be_read(tensor: Tensor) -> bool:
    """Sizes that depend on values exist neither in a traced graph nor in a captured one."""
    if torch.compiler.is_compiling() or is_tracing() or tensor.is_meta:
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def run_packed(
    forward: Callable[..., Any], arguments: dict[str, Any], packing: Packing, config: Any
) -> Any:
    """Run ``forward`` on the real tokens of ``arguments``.

    Args:
        forward: of the ``GPT2Model``, with its plan.
        arguments: of the padded forward, by name.
        packing: where the real tokens are.
        config: of the model.

    Returns:
        What ``forward`` returns for the padded batch, zeros at pads.
    """
    name = "input_ids" if arguments.get("inputs_embeds") is None else "inputs_embeds"
    shape = arguments[name].shape if name == "input_ids" else arguments[name].shape[:-1]
    packed = {**arguments, "position_ids": _pack_positions(arguments, packing)}
    for name in ("input_ids", "token_type_ids"):
        if arguments.get(name) is not None:
            packed[name] = packing.pack(arguments[name].reshape(-1, packing.tokens))
    if arguments.get("inputs_embeds") is not None:
        packed["inputs_embeds"] = packing.pack(arguments["inputs_embeds"])
    returns_dict = arguments.get("return_dict")
    if returns_dict is None:
        returns_dict = getattr(config, "return_dict", None)
    out = forward(**{**packed, "return_dict": True})
    for name in ("last_hidden_state", "hidden_states"):
        if out.get(name) is not None:
            out[name] = _unpack(out[name], packing, shape)
    return out if returns_dict in (True, None) else out.to_tuple()


def _pack_positions(arguments: dict[str, Any], packing: Packing) -> Tensor:
    positions: Tensor | None = arguments.get("position_ids")
    if positions is None:  # as stock code counts them
        device = packing.slots.device
        positions = torch.arange(packing.filled, packing.filled + packing.tokens, device=device)
    return packing.pack(positions.reshape(-1, packing.tokens))


def _unpack(states: Any, packing: Packing, shape: torch.Size) -> Any:
    if isinstance(states, tuple):
        return tuple(_unpack(state, packing, shape) for state in states)
    return packing.on(states.device).unpack(states).view(*shape, states.shape[-1])
