"""Which transformers is supported, said once. Elsewhere features are tested, not versions."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Iterable

__all__ = ["TESTED", "check_version", "require_parameters"]

OLDEST = (5, 4, 0)
TESTED = ("5.4.0", "5.16.1", "5.23.0")


def check_version(version: str | None = None) -> None:
    """Refuse a missing or too old transformers.

    Args:
        version: version to judge; ``None`` means the installed one (read without importing it).

    Raises:
        ImportError: transformers is missing or older than 5.4.0.
    """
    if version is None:
        try:
            version = importlib.metadata.version("transformers")
        except importlib.metadata.PackageNotFoundError:
            raise ImportError(
                'masked_attn.integrations needs transformers: pip install "transformers>=5.4"'
            ) from None
    if _numbers(version) < OLDEST:
        raise ImportError(
            f"masked_attn.integrations needs transformers >= 5.4.0 and found {version}; "
            f'tested with {", ".join(TESTED)}: pip install "transformers>=5.4"'
        )


def require_parameters(function: Callable[..., object], names: Iterable[str], what: str) -> None:
    """Refuse a transformers whose ``function`` no longer takes the parameters that we rely on.

    Raises:
        RuntimeError: a parameter is missing; the message names it and the tested versions.
    """
    parameters = inspect.signature(function).parameters
    missing = [name for name in names if name not in parameters]
    if missing:
        raise RuntimeError(
            f"{what} of the installed transformers has no parameter {', '.join(missing)}; "
            f"masked_attn is tested with transformers {', '.join(TESTED)}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "5.4.0.dev0" gives (5, 4, 0)."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple([*numbers, 0, 0, 0][:3])
