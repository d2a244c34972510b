"""The deliberate bugs of ``tools/mutate.py`` still fit the code; ``make mutants`` runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import mutate
import mutations

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_text_to_change_stands_there_once(mutation: mutations.Mutation) -> None:
    assert (ROOT / mutation.path).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    assert mutation.tests and all((ROOT / test).exists() for test in mutation.tests)


def test_names_differ() -> None:
    names = [mutation.name for mutation in mutations.MUTATIONS]
    assert len(set(names)) == len(names)


def test_who_notices_is_read_from_what_pytest_and_ctest_print() -> None:
    pytest_prints = """\
FAILED tests/python/ops/test_linear.py::test_accuracy[cpu-lead=3x4] - AssertionError: result
FAILED tests/python/ops/test_linear.py::test_of_pairs[(torch.float32, torch.float16)-True]
ERROR tests/python/test_masks.py - ImportError: no
3 failed, 4 passed in 1.00s
"""
    assert mutate.FAILED_PYTEST.findall(pytest_prints) == [
        "tests/python/ops/test_linear.py::test_accuracy[cpu-lead=3x4]",
        "tests/python/ops/test_linear.py::test_of_pairs[(torch.float32, torch.float16)-True]",
        "tests/python/test_masks.py",
    ]
    ctest_prints = """\
The following tests FAILED:
\t 12 - offsets: beyond 2^31 (SEGFAULT)
\t113 - attention (few queries) agrees (Failed)
Errors while running CTest
"""
    assert mutate.FAILED_CTEST.findall(ctest_prints) == [
        "offsets: beyond 2^31",
        "attention (few queries) agrees",
    ]


def test_the_table_says_where_nobody_notices() -> None:
    one, other = mutations.MUTATIONS[:2]
    lines = mutate.table([(one, ["a", "b"]), (other, [])]).splitlines()
    assert lines[2] == f"| {one.name} | {one.path} | 2 | a |"
    assert lines[3] == f"| {other.name} | {other.path} | 0 | **none** |"
