"""Versions of installed packages, without importing them or torch."""

from __future__ import annotations

from importlib import import_module, metadata

__all__ = ["installed", "package_version"]


def installed(package: str) -> str | None:
    """The version of a package; ``None`` when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def package_version() -> str:
    """Version of masked_attn: of the installed package, else of the sources that were built."""
    found = installed("masked_attn")
    if found is None:
        found = str(import_module("masked_attn._C").build_info()["version"])
    return found
