"""The releases that the tests ran with: the one list, from which everything else is taken.

It imports nothing, so that tools read it without torch.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["TORCH", "TRANSFORMERS", "covers"]

# `make test-torch` runs the operator tests with each.
TORCH = ("2.13.0",)
# `make test-transformers` runs the integration tests with each. The newest caps the extras.
TRANSFORMERS = ("5.4.0", "5.16.1", "5.23.0", "5.24.0")


def covers(tested: Sequence[str], version: str) -> bool:
    """Whether ``version`` is one of ``tested``, or differs from it in its last number only.

    Example:
        >>> covers(TRANSFORMERS, "5.16.3"), covers(TRANSFORMERS, "5.17.0")
        (True, False)
    """
    return version.split(".")[:2] in [other.split(".")[:2] for other in tested]
