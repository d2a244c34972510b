"""Masked attention for batches of sequences of different lengths.

Importing this package imports torch and loads the operators. What needs transformers (``patch``,
``unpatch``, ``patched``, ``KVCache``, ``register_attention``) is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _program

_program.check_words_first()

from . import _library  # noqa: E402

_C = _library.load()

from . import masks, reference  # noqa: E402
from .functional import (  # noqa: E402
    cached_attention,
    expand_mask,
    linear,
    masked_attention,
    masked_softmax,
    packed_attention,
)
from .merging import merge_attention  # noqa: E402
from .modules import MaskedSelfAttention  # noqa: E402

if TYPE_CHECKING:
    from .hf import KVCache, patch, patched, register_attention, report, unpatch

__version__: str = _C.build_info()["version"]

__all__ = [
    "KVCache",
    "MaskedSelfAttention",
    "__version__",
    "cached_attention",
    "expand_mask",
    "linear",
    "masked_attention",
    "masked_softmax",
    "masks",
    "merge_attention",
    "packed_attention",
    "patch",
    "patched",
    "reference",
    "register_attention",
    "report",
    "unpatch",
]

_NEED_TRANSFORMERS = frozenset(
    {"KVCache", "patch", "patched", "register_attention", "report", "unpatch"}
)


def __getattr__(name: str) -> Any:
    if name not in _NEED_TRANSFORMERS:
        raise AttributeError(f"module 'masked_attn' has no attribute {name!r}")
    try:
        hf = import_module(".hf", __name__)
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ImportError(
            f"masked_attn.{name} needs transformers; run: pip install 'masked_attn[hf]'"
        ) from error
    return getattr(hf, name)


def __dir__() -> list[str]:
    return sorted(__all__)
