"""No test may pass because it checks nothing: an ``if`` around all of its checks can be false."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.rglob("test_*.py"))
# How the names of helpers begin that fail where something is wrong.
CHECKS = ("assert", "check", "close", "fail", "opcheck", "raises", "says", "warns")


def is_check(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Assert)
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.startswith(CHECKS)


def checks(node: ast.AST, certain: bool = True) -> Iterator[bool]:
    """For each check below ``node``: False where an ``if`` without an ``else`` decides about it."""
    for child in ast.iter_child_nodes(node):
        if is_check(child):
            yield certain
        may_be_left_out = isinstance(child, ast.If) and not child.orelse
        yield from checks(child, certain and not may_be_left_out)


def empty_tests(source: str) -> list[str]:
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    tests = ((f.name, list(checks(f))) for f in functions if f.name.startswith("test_"))
    return [name for name, found in tests if found and not any(found)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_test_may_check_nothing(file: Path) -> None:
    assert empty_tests(file.read_text()) == []


def test_a_test_that_may_check_nothing_is_found() -> None:
    sometimes = "def test_it(x):\n    if x:\n        for y in x:\n            assert y\n"
    always = "def test_it(x):\n    if x:\n        assert x\n    else:\n        check(x)\n"
    assert empty_tests(sometimes) == ["test_it"]
    assert empty_tests(always) == []
