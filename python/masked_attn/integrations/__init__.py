"""Hugging Face transformers: the only folder that imports it.

Importing this package registers ``attn_implementation="masked_attn"``.
"""

from . import versions

versions.check_version()

from .attention_interface import register_attention  # noqa: E402
from .cache import KVCache  # noqa: E402
from .patching import patch, patched, paths, unpatch  # noqa: E402
from .reporting import report  # noqa: E402

__all__ = ["KVCache", "patch", "patched", "paths", "register_attention", "report", "unpatch"]
