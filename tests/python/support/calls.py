"""Counts operator calls, so that a test can say which path ran."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_PUBLIC_NAME = {
    "_masked_attention_forward": "masked_attention",
    "_packed_attention_forward": "packed_attention",
}


class CallCounter(TorchDispatchMode):
    """``with CallCounter() as calls: ...`` then ``calls["masked_softmax"]`` is a number of calls.

    Only operators of masked_attn are counted, without their namespace and overload.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "masked_attn":
            name = func._schema.name.split("::")[1]
            self.counts[_PUBLIC_NAME.get(name, name)] += 1
        return func(*args, **(kwargs or {}))
