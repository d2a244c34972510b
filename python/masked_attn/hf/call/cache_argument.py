"""What the installed transformers calls the cache of a model; only this file knows.

All other files say ``past_key_values``, as releases before 5.24 do. The surprise: newer ones say
``cache``, and take the old name by a decorator that ``inspect.signature`` does not show.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from transformers import GenerationMixin

__all__ = ["NAMES", "OURS", "THEIRS", "cache_of", "ours", "theirs"]

NAMES = OURS, _NEWER = "past_key_values", "cache"


def _name() -> str:
    parameters = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return _NEWER if _NEWER in parameters and OURS not in parameters else OURS


THEIRS = _name()


def ours(arguments: dict[str, Any], function: str) -> dict[str, Any]:
    """Arguments of a caller by our name.

    As in stock code the old name draws a ``FutureWarning`` where there is a new one, and does not
    count beside it.

    Args:
        arguments: by name.
        function: the one that was called, for the warning.
    """
    if THEIRS == OURS or not (THEIRS in arguments or OURS in arguments):
        return arguments
    arguments = dict(arguments)
    if OURS in arguments:
        _warn_of_old_name(function, both=THEIRS in arguments)
    if THEIRS in arguments:
        arguments[OURS] = arguments.pop(THEIRS)
    return arguments


def theirs(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments by our name as the stock code takes them."""
    if THEIRS == OURS or OURS not in arguments:
        return arguments
    arguments = dict(arguments)
    arguments[THEIRS] = arguments.pop(OURS)
    return arguments


def cache_of(output: Any) -> Any:
    """The cache in what the model returned; None where it holds none."""
    return getattr(output, THEIRS, None)


def _warn_of_old_name(function: str, both: bool) -> None:
    if torch.compiler.is_compiling():
        return
    if both:
        message = f"Both `{OURS}` and `{THEIRS}` are set for `{function}`. Using `{THEIRS}`."
    else:
        message = f"`{OURS}` is deprecated for `{function}`. Use `{THEIRS}` instead."
    warnings.warn(message, FutureWarning, stacklevel=4)
