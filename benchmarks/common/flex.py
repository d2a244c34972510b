"""FlexAttention, compiled. A block mask lets it skip blocks of 128 x 128 that nobody sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .timing import Contender
from .trial import reason
from .visibility import Visibility
from .workloads import Layer

__all__ = ["flex"]

NAME = "FlexAttention, compiled"


def flex(
    seen: Visibility, layers: list[Layer], *, new_mask: bool = False
) -> dict[str, Contender | str]:
    """FlexAttention over the tensors of every layer.

    Args:
        seen: who sees whom.
        layers: query, key and value of each layer.
        new_mask: also with the block mask built inside the timing, once for all layers.

    Returns:
        name -> what to time, or why it does not run.
    """
    from torch.nn.attention.flex_attention import flex_attention

    torch.compiler.reset()
    compiled: Any = torch.compile(flex_attention, dynamic=False)
    rule = _rule(seen)

    def run(block_mask: Any, count: int | None = None) -> Tensor:
        for query, key, value in layers[:count]:
            result: Tensor = compiled(query, key, value, block_mask=block_mask)
        return result

    try:
        ready = _block_mask(seen, rule)
        run(ready, 1)
    except Exception as error:  # whatever a compiler can fail with
        return {NAME: reason(error)}
    found: dict[str, Contender | str] = {NAME: Contender(lambda: run(ready), calls=len(layers))}
    if new_mask and ready is not None:
        fresh = Contender(lambda: run(_block_mask(seen, rule)), calls=len(layers))
        found["FlexAttention, new block mask"] = fresh
    return found


def _block_mask(seen: Visibility, rule: Any) -> Any:
    """The blocks that somebody sees; None if everybody sees everything."""
    from torch.nn.attention.flex_attention import create_block_mask

    if not seen.causal and seen.key_mask is None:
        return None
    rows = None if seen.key_mask is None else seen.batch
    return create_block_mask(rule, rows, None, seen.queries, seen.keys, device=seen.device)


def _rule(seen: Visibility) -> Any:
    key_mask, past = seen.key_mask, seen.keys - seen.queries

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        result = key <= query + past if seen.causal else key >= 0
        return result if key_mask is None else result & key_mask[batch, key]

    return visible
