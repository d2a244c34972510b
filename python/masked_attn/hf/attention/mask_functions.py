"""What a mask function of transformers means, told without asking it for every query and key.

transformers builds windows as functions inside functions; what they were built from is looked up
in their closures. A function that is not exactly one of theirs stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import masking_utils
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

__all__ = ["Pattern", "pattern_of"]

MaskFunction = Callable[..., Any]


@dataclass(frozen=True)
class Pattern:
    """What every row sees, apart from its padding.

    Attributes:
        causal: nothing behind the query.
        window: as in ``masked_attention``; None means all.
    """

    causal: bool
    window: int | None = None


def pattern_of(mask_function: MaskFunction) -> Pattern | None:
    """The pattern, or None for one that key mask and window cannot say, and in a compiled graph.

    Args:
        mask_function: of ``(batch, head, query, key)``, as transformers gives it to mask functions.
    """
    if mask_function is causal_mask_function:
        return Pattern(causal=True)
    if mask_function is bidirectional_mask_function:
        return Pattern(causal=False)
    if torch.compiler.is_compiling():  # which cannot look into a closure
        return None
    parts = _captured(mask_function, _and_masks, "mask_functions")
    if not isinstance(parts, tuple) or len(parts) != 2:
        return None
    overlay, base = parts
    if base is causal_mask_function:
        size = _captured(overlay, _causal_overlay, "sliding_window")
        window, causal = size, True
    elif base is bidirectional_mask_function:
        size = _captured(overlay, _both_ways_overlay, "sliding_window")
        # transformers counts the keys on one side, the operators the query too.
        window, causal = (size + 1 if type(size) is int else size), False
    else:
        return None
    if type(window) is not int or window < 1 or not _ends_at(overlay, window, causal):
        return None
    return Pattern(causal, window)


def _captured(function: Any, like: MaskFunction, name: str) -> Any:
    """What ``function`` took along as ``name``; None unless its code is that of ``like``."""
    code = getattr(function, "__code__", None)
    if code is None or code is not like.__code__ or name not in code.co_freevars:
        return None
    return function.__closure__[code.co_freevars.index(name)].cell_contents


def _ends_at(overlay: MaskFunction, window: int, causal: bool) -> bool:
    """Whether an overlay sees ``window`` keys up to the query (and as many from it on)."""
    query = window + 1
    ends = overlay(0, 0, query, 2), overlay(0, 0, query, 1)
    if causal:
        return ends == (True, False)
    last = query + window - 1
    return (*ends, overlay(0, 0, query, last), overlay(0, 0, query, last + 1)) == (True, False) * 2


_and_masks = masking_utils.and_masks(causal_mask_function)
_causal_overlay = masking_utils.sliding_window_overlay(1)
_both_ways_overlay = masking_utils.sliding_window_bidirectional_overlay(1)
