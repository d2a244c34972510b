"""The examples in the docstrings are run; every public operator has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import masked_attn
from masked_attn import functional

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
LIBRARIES = ("_C", "libmasked_attn_kernels", "libmasked_attn_ops")
NOT_PYTHON = tuple(f"masked_attn.{name}" for name in LIBRARIES)


def module_names() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(masked_attn.__path__, "masked_attn.")]
    return [name for name in found if name not in NOT_PYTHON and not name.endswith("__main__")]


@pytest.mark.parametrize("name", module_names())
def test_examples(name: str) -> None:
    if ".hf" in name:
        pytest.importorskip("transformers")
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


@pytest.mark.parametrize("name", functional.__all__)
def test_every_operator_has_an_example_and_the_usual_sections(name: str) -> None:
    text = getattr(functional, name).__doc__
    assert doctest.DocTestParser().get_examples(text)
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in text, f"{name} lacks '{section}'"
