"""Number arguments with their bounds: functions for the ``type=`` of argparse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["real_number", "whole_number"]


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of integers from ``low`` to ``high`` (no upper bound when ``None``).

    Example:
        >>> whole_number(1)("12")
        12
    """
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, got {text!r}")
        return number

    return parse


def real_number(
    low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> Callable[[str], float]:
    """A parser of finite numbers from ``low`` to ``high``; ``open_low`` leaves ``low`` itself out.

    Example:
        >>> real_number(0, 1)("0.25")
        0.25
    """
    bounds = _describe(low, high, open_low)

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        below = number <= low if open_low else number < low
        if not math.isfinite(number) or below or number > high:
            raise argparse.ArgumentTypeError(f"must be a number{bounds}, got {text!r}")
        return number

    return parse


def _describe(low: float, high: float, open_low: bool) -> str:
    if low == -math.inf:
        return ""
    start = f" above {low:g}" if open_low else f" of at least {low:g}"
    return start if high == math.inf else f"{start} and at most {high:g}"
