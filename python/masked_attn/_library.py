"""Loads the compiled library, once, and holds every message about installing it.

The small module ``_C`` knows what the library was built for and does not need torch, so the check
comes before the operator library is loaded: after that, a wrong torch is an undefined symbol.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

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
    "masked_attn was built for torch {built}, found {found}; "
    f"in the folder of its sources run: {REBUILD}"
)
BUILT_FOR_CUDA = (
    "masked_attn was built with CUDA {built} kernels, and torch {version} {found}; "
    f"in the folder of its sources run: {REBUILD}"
)
BUILT_FOR_ANOTHER_PYTHON = (
    "masked_attn was built for another Python ({built}), this is {found}; "
    f"in the folder of its sources run: {REBUILD}"
)
NOT_BUILT = (
    "masked_attn is not built: there is no {name} in {folder}; "
    "in the folder of its sources run: pip install --no-build-isolation ."
)
CANNOT_LOAD = (
    f"masked_attn cannot load {{path}} ({{error}}); in the folder of its sources run: {REBUILD}"
)

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
        check_built_for(module.build_info(), str(torch.__version__), torch.version.cuda)
        _load_operators(library_path())
        _module = module
    return _module


def check_built_for(facts: Mapping[str, Any], version: str, cuda: str | None) -> None:
    """Refuse a library that this torch cannot load.

    The C++ interface of torch changes with its minor version, and is the same in its builds for the
    CPU and for CUDA. So a library for the CPU works with either, on tensors of the CPU; one with
    CUDA kernels needs a torch for CUDA of the same major version.

    Args:
        facts: what ``_C.build_info()`` says of the library.
        version: of the torch in this process.
        cuda: version of CUDA that this torch was built for; ``None`` for a build for the CPU.

    Raises:
        ImportError: the library needs another torch.
    """
    built = facts["torch_version"]
    if built.split(".")[:2] != version.split(".")[:2]:
        raise ImportError(BUILT_FOR_ANOTHER_TORCH.format(built=built, found=version))
    if not facts["cuda"]:
        return
    if cuda is None or cuda.split(".")[0] != facts["torch_cuda"].split(".")[0]:
        found = "is a build for the CPU" if cuda is None else f"is a build for CUDA {cuda}"
        words = {"built": facts["torch_cuda"], "version": version, "found": found}
        raise ImportError(BUILT_FOR_CUDA.format(**words))


def _import_module() -> ModuleType:
    try:
        return importlib.import_module("masked_attn._C")
    except ModuleNotFoundError:
        raise ImportError(_why_missing(_FOLDER)) from None
    except ImportError as error:  # the library of the kernels, which it needs, is not beside it
        raise ImportError(CANNOT_LOAD.format(path="masked_attn._C", error=error)) from error


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
