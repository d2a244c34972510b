"""Hugging Face transformers: the only folder that imports it.

Importing this package registers ``attn_implementation="masked_attn"``. The surprise: names are
imported when they are first used, so what a release of transformers broke takes nothing with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import versions

if TYPE_CHECKING:
    from .attention.interface import register_attention
    from .caches.kv_cache import KVCache
    from .families.requirements import require_family
    from .patching import patch, patched, paths, unpatch
    from .trace.report import report

__all__ = [
    "KVCache",
    "patch",
    "patched",
    "paths",
    "register_attention",
    "report",
    "require_family",
    "unpatch",
]

_FILES = {
    "KVCache": "caches.kv_cache",
    "patch": "patching",
    "patched": "patching",
    "paths": "patching",
    "register_attention": "attention.interface",
    "report": "trace.report",
    "require_family": "families.requirements",
    "unpatch": "patching",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f".{_FILES[name]}", __name__), name)
    except Exception as error:  # whatever an unknown release does to us
        if isinstance(error, ModuleNotFoundError) and error.name == "transformers":
            raise
        return versions.refusal(name, error)
    globals()[name] = found
    return found


versions.check_version()
__getattr__("register_attention")
