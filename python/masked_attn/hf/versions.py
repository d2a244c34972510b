"""Which transformers is supported, said once. Elsewhere features are tested, not versions."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NoReturn

from ..tested import TRANSFORMERS as TESTED

__all__ = [
    "COMMAND",
    "TESTED",
    "changed",
    "check_version",
    "encoder_mask_gets_lost",
    "refusal",
    "require_parameters",
]

COMMAND = f'pip install "transformers=={TESTED[-1]}"'
_HELP = f"masked_attn is tested with transformers {', '.join(TESTED)}: {COMMAND}"


def check_version(version: str | None = None) -> None:
    """Refuse a missing or too old transformers.

    Args:
        version: version to judge; ``None`` means the installed one (read without importing it).

    Raises:
        ImportError: transformers is missing or older than the oldest that is tested.
    """
    if version is None:
        try:
            version = importlib.metadata.version("transformers")
        except importlib.metadata.PackageNotFoundError:
            raise ImportError(f"masked_attn.hf needs transformers: {COMMAND}") from None
    if _numbers(version) < _numbers(TESTED[0]):
        raise ImportError(
            f"masked_attn.hf needs transformers >= {TESTED[0]} and found {version}; " + _HELP
        )


def require_parameters(function: Callable[..., object], names: Iterable[str], what: str) -> None:
    """Refuse a transformers whose ``function`` no longer takes the parameters that we rely on.

    Raises:
        RuntimeError: a parameter is missing; the message names it and the tested versions, and ends
            with the command that installs the newest of them.
    """
    parameters = inspect.signature(function).parameters
    missing = [name for name in names if name not in parameters]
    if missing:
        raise changed(f"{what} has no parameter {', '.join(missing)}")


def changed(how: str) -> RuntimeError:
    """The error about a transformers that is not as we know it: ``how`` says in what."""
    version = importlib.metadata.version("transformers")
    return RuntimeError(f"{how} in transformers {version}; {_HELP}")


def refusal(name: str, error: Exception) -> Callable[..., NoReturn]:
    """Stands in for what could not be imported: whoever calls it is told why.

    Args:
        name: of the function or class.
        error: what its import raised.
    """

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        if str(error).endswith(COMMAND):
            raise RuntimeError(str(error)) from error
        reason = f"{type(error).__name__}: {error}"
        raise changed(f"masked_attn.{name} does not work ({reason})") from error

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "5.4.0.dev0" gives (5, 4, 0)."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple([*numbers, 0, 0, 0][:3])


@cache
def encoder_mask_gets_lost() -> bool:
    """Before transformers 5.16 GPT-2 makes a mask that hides nothing in place of the encoder's."""
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    return "encoder_attention_mask = None" in inspect.getsource(GPT2Model.forward)
