"""Loads the compiled library, once, and holds every message about installing it.

The small module ``_C`` knows what the library was built for and does not need torch, so the check
comes before the operator library is loaded: after that, a wrong torch is an undefined symbol.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

try:
    import torch
except ImportError as error:
    raise ImportError(
        "masked_attn needs torch, and it cannot be imported "
        f"({error}). Install torch (for example the CPU build from PyTorch's install page: "
        "pip install torch), then run: pip install --no-build-isolation ."
    ) from error

__all__ = ["LIBRARY_NAME", "library_path", "load"]

LIBRARY_NAME = "libmasked_attn_ops.so"

REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps ."
BUILT_FOR_ANOTHER_TORCH = (
    f"masked_attn was built for torch {{built}}, found {{found}}; run: {REBUILD}"
)
BUILT_FOR_ANOTHER_PYTHON = (
    f"masked_attn was built for another Python ({{built}}), this is {{found}}; run: {REBUILD}"
)
NOT_BUILT = (
    "masked_attn is not built: there is no {name} in {folder}; "
    "in the folder of its sources run: pip install --no-build-isolation ."
)
CANNOT_LOAD = f"masked_attn cannot load {{path}} ({{error}}); run: {REBUILD}"

_FOLDER = Path(__file__).resolve().parent
_module: ModuleType | None = None


def library_path() -> Path:
    """Return the path of the operator library, for ``torch.ops.load_library`` and C++ programs.

    Returns:
        The path; the file is there once the package is built.
    """
    return _FOLDER / LIBRARY_NAME


def load() -> ModuleType:
    """Load the operators into torch, once in a process.

    Returns:
        The module ``masked_attn._C``.

    Raises:
        ImportError: the library is missing, or was built for another torch or Python. The message
            names the command to run.
    """
    global _module
    if _module is None:
        module = _import_module()
        check_built_for(module.build_info()["torch_version"], str(torch.__version__))
        _load_operators(library_path())
        _module = module
    return _module


def check_built_for(built: str, found: str) -> None:
    """Refuse a library that was compiled against another torch.

    Args:
        built: version of torch that the library was compiled against.
        found: version of torch in this process.

    Raises:
        ImportError: they differ.
    """
    if built != found:
        raise ImportError(BUILT_FOR_ANOTHER_TORCH.format(built=built, found=found))


def _import_module() -> ModuleType:
    try:
        return importlib.import_module("masked_attn._C")
    except ModuleNotFoundError:
        raise ImportError(_why_missing(_FOLDER)) from None


def _why_missing(folder: Path) -> str:
    """Tell a library that was never built from one for another Python."""
    found = sys.implementation.cache_tag
    others = sorted(path.name for path in folder.glob("_C.*.so"))
    if others:
        return BUILT_FOR_ANOTHER_PYTHON.format(built=", ".join(others), found=found)
    return NOT_BUILT.format(name="_C module", folder=folder)


def _load_operators(path: Path) -> None:
    if not path.exists():
        raise ImportError(NOT_BUILT.format(name=path.name, folder=path.parent))
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise ImportError(CANNOT_LOAD.format(path=path, error=error)) from error
