"""One forward of a GPT-2 without its pads, which are dropped before the embedding.

The blocks run unchanged on ``[1, kept tokens, embed]``; what they return gets its pads back, as
zeros, so callers see the shapes of the padded batch. Pads whose result is read are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.jit import is_tracing  # type: ignore[attr-defined]
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

from ..instance.neighbours import shape_reader
from .packing import Packing, make_packing
from .visibility import Visibility

__all__ = ["packing_of", "run_packed"]


def packing_of(
    model: GPT2Model,
    seen: Visibility,
    *,
    queries: int,
    ids: Tensor | None,
    cache: Any,
    previous: Any,
) -> tuple[Packing | None, str | None]:
    """How to leave out the pads of a forward: None where there are none, or they must stay.

    On a GPU this waits for the device once, to read the mask (twice with a static cache).

    Args:
        model: the model.
        seen: the masks.
        queries: tokens of each row.
        ids: the caller's ``input_ids``, or None.
        cache: what the caller gave as ``past_key_values``.
        previous: see ``shape_reader``.

    Returns:
        The packing, or why pads are computed although there are some.
    """
    mask = seen.key_mask
    if mask is None or queries == 1 or not seen.causal or not _values_can_be_read(mask):
        return None, None
    filled = 0 if cache is None else int(cache.get_seq_length())
    classified = _last_tokens(ids, queries, model.config.pad_token_id, mask)
    values = _read(mask[:, : filled + queries], classified)
    packing = None if values is None else make_packing(*values, filled)
    if packing is None:
        return None, None
    reader = shape_reader(model, previous)
    return (packing.on(mask.device), None) if reader is None else (None, reader)


def _values_can_be_read(tensor: Tensor) -> bool:
    """Sizes that depend on values exist neither in a traced graph nor in a captured one."""
    if torch.compiler.is_compiling() or is_tracing() or tensor.is_meta:
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def _last_tokens(ids: Tensor | None, queries: int, pad: int | None, mask: Tensor) -> Tensor:
    """The slot of each row that ``GPT2ForSequenceClassification`` reads: bool ``[batch, queries]``.

    It looks at ids, not at the mask.
    """
    slots = torch.arange(queries, device=mask.device)
    if ids is None or pad is None:
        return (slots == queries - 1).expand(mask.shape[0], queries)
    return slots == (slots * (ids.reshape(-1, queries) != pad)).argmax(-1, keepdim=True)


def _read(mask: Tensor, slots: Tensor) -> tuple[Tensor, Tensor] | None:
    """Both on the CPU, by one wait; None where ``mask`` hides nothing, or has no values."""
    both = torch.cat([mask, slots], dim=1).cpu()
    host = both[:, : mask.shape[1]]
    try:
        return None if bool(host.all()) else (host, both[:, mask.shape[1] :])
    except RuntimeError:  # torch.func.vmap, FakeTensorMode and make_fx refuse to tell a value
        return None


def run_packed(
    forward: Callable[..., Any], arguments: dict[str, Any], packing: Packing, config: Any
) -> Any:
    """Run ``forward`` on the kept tokens of ``arguments``.

    Args:
        forward: of the ``GPT2Model``, with its plan.
        arguments: of the padded forward, by name.
        packing: where the kept tokens are.
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
    _unpack(out, packing, shape)
    return out if returns_dict in (True, None) else out.to_tuple()


def _pack_positions(arguments: dict[str, Any], packing: Packing) -> Tensor:
    positions: Tensor | None = arguments.get("position_ids")
    if positions is None:  # as stock code counts them
        device = packing.slots.device
        positions = torch.arange(packing.filled, packing.filled + packing.tokens, device=device)
    # Stock code adds their embeddings to those of the tokens: what broadcasts there does so here.
    return packing.pack(positions if positions.ndim < 3 else positions.flatten(0, -2))


def _unpack(out: Any, packing: Packing, shape: torch.Size) -> None:
    """Give all states their pads back; as in stock code only the last has the shape of the ids."""
    last = out.last_hidden_state
    whole = packing.on(last.device).unpack(last).view(*shape, last.shape[-1])
    out["last_hidden_state"] = whole
    if out.get("hidden_states") is not None:
        out["hidden_states"] = tuple(
            whole if state is last else packing.on(state.device).unpack(state)
            for state in out["hidden_states"]
        )
