"""Which pads of a forward can be left out: those that nobody reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.jit import is_tracing  # type: ignore[attr-defined]

from ..families.family import ModelFamily
from ..instance.neighbours import shape_reader
from .forward_call import ForwardCall
from .packing import Packing, make_packing
from .visibility import Visibility

__all__ = ["packing_of"]


def packing_of(
    family: ModelFamily, model: Any, call: ForwardCall, seen: Visibility, *, previous: Any
) -> tuple[Packing | None, str | None]:
    """How to leave out the pads of a forward: None where there are none, or they must stay.

    On a GPU this waits for the device once, to read the mask (twice with a static cache).

    Args:
        family: of the model.
        model: the backbone.
        call: the forward.
        seen: the masks.
        previous: see ``shape_reader``.

    Returns:
        The packing, or why pads are computed although there are some.
    """
    mask, queries = seen.key_mask, call.queries
    assert queries is not None
    if mask is None or queries == 1 or seen.causal != family.causal:
        return None, None
    if not _values_can_be_read(mask):
        return None, None
    filled = 0 if call.cache is None else int(call.cache.get_seq_length())
    if family.causal:
        slots = _last_tokens(call.ids, queries, model.config.pad_token_id, mask)
    else:
        slots = (torch.arange(queries, device=mask.device) == 0).expand(mask.shape[0], queries)
    values = _read(mask[:, : filled + queries], slots)
    packing = None if values is None else make_packing(*values, filled, causal=family.causal)
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
    """The slot of each row that heads for classification read: bool ``[batch, queries]``.

    They look at ids, not at the mask.
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
