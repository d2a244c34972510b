"""Unsupported or changed transformers versions get one clear message."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

pytest.importorskip("transformers")

from masked_attn import tested
from masked_attn.hf import versions

pytestmark = pytest.mark.integration

COMMAND = f'pip install "transformers=={versions.TESTED[-1]}"'


def numbers(version):
    return tuple(map(int, version.split(".")))


def test_tested_versions_are_in_order():
    assert list(versions.TESTED) == sorted(versions.TESTED, key=numbers)
    assert all(len(numbers(version)) == 3 for version in versions.TESTED)


@pytest.mark.parametrize("version", ["4.57.0", "5.3.9", "5.0", "4"])
def test_item_52_old_versions_are_refused(version):
    tested = re.escape(", ".join(versions.TESTED))
    with pytest.raises(ImportError, match=rf">= 5.4.0 and found .*tested .*{tested}") as caught:
        versions.check_version(version)
    assert str(caught.value).endswith(COMMAND)


@pytest.mark.parametrize("version", ["5.4.0.dev0", "5.4", *versions.TESTED, "6.0.0rc1"])
def test_item_52_newer_versions_are_tried(version):
    versions.check_version(version)


@pytest.mark.parametrize("version", ["5.3.0", "5.25.0", "6.4.0", "5.17.1", "5", "unknown"])
def test_68_versions_that_no_test_has_seen(version):
    assert not tested.covers(versions.TESTED, version)


@pytest.mark.parametrize("version", [*versions.TESTED, "5.24.7", "5.24.1.dev0"])
def test_68_a_repair_of_a_tested_version_counts_as_tested(version):
    assert tested.covers(versions.TESTED, version)


def test_item_52_missing_transformers_names_the_command(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match="needs transformers") as caught:
        versions.check_version()
    assert str(caught.value).endswith(COMMAND)


def test_item_52_a_changed_signature_names_the_parameter():
    def forward(self, hidden_states, mask): ...

    versions.require_parameters(forward, ("hidden_states",), "forward")
    with pytest.raises(RuntimeError, match="forward has no parameter attention_mask") as caught:
        versions.require_parameters(forward, ("hidden_states", "attention_mask"), "forward")
    assert str(caught.value).endswith(COMMAND)


def test_functions_do_not_import_transformers():
    program = "import sys, masked_attn.functional, masked_attn.kv_cache, masked_attn.modules\n"
    program += "assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
