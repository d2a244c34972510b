"""The deliberate bugs of ``tools/mutate.py`` still fit the code: each text stands there once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("mutate", ROOT / "tools" / "mutate.py")
assert SPEC is not None and SPEC.loader is not None
mutate = importlib.util.module_from_spec(SPEC)
sys.modules["mutate"] = mutate  # dataclasses look their module up
SPEC.loader.exec_module(mutate)


@pytest.mark.parametrize("mutation", mutate.MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_text_to_change_stands_there_once(mutation: mutate.Mutation) -> None:
    assert (ROOT / mutation.path).read_text().count(mutation.old) == 1
    assert all((ROOT / test).exists() for test in mutation.tests)
