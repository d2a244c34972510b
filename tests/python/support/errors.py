"""What an error must say: the operator, the argument, and what was found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# How torch's C++ and Python spell one dtype.
DTYPE_NAMES = {
    "int64": "Long|int64",
    "int32": "Int|int32",
    "uint8": "Byte|uint8",
    "int8": "Char|int8",
    "float32": "Float|float32",
    "float64": "Double|float64",
    "float16": "Half|float16",
    "bfloat16": "BFloat16|bfloat16",
    "complex64": "ComplexFloat|complex64",
    "bool": "Bool|bool",
    "float8_e4m3fn": "Float8_e4m3fn|float8_e4m3fn",
}


@contextmanager
def says(operator: str, *parts: str) -> Iterator[None]:
    """A RuntimeError that starts with ``operator:`` and holds all parts, dtypes in any spelling."""
    with pytest.raises(RuntimeError) as caught:
        yield
    message = str(caught.value).splitlines()[0]
    assert message.startswith(f"{operator}: "), f"must start with '{operator}: ': {message}"
    for part in parts:
        found = (
            re.search(rf"\b({DTYPE_NAMES[part]})\b", message)
            if part in DTYPE_NAMES
            else part in message
        )
        assert found, f"'{part}' is not in: {message}"
