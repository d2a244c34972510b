"""Rivals must compute the same thing: a faster wrong answer is no rival."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["agreement"]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 1e-2}


def agreement(real_queries: Tensor | None = None) -> Callable[[Mapping[str, Tensor]], None]:
    """Return a check of results ``[batch, heads, queries, ...]`` against the first of them.

    Args:
        real_queries: ``[batch, queries]`` bool; what pad queries get is each rival's own affair.
    """

    def check(results: Mapping[str, Tensor]) -> None:
        first, *others = results
        for other in others:
            pair = [results[name] for name in (first, other)]
            if real_queries is not None:
                pair = [result.transpose(1, 2)[real_queries] for result in pair]
            tolerance = TOLERANCE[pair[0].dtype]
            torch.testing.assert_close(
                pair[1], pair[0], rtol=tolerance, atol=tolerance, msg=f"{other} is not {first}"
            )

    return check
