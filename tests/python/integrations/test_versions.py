"""Unsupported or changed transformers versions get one clear message."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

pytest.importorskip("transformers")

from masked_attn.integrations import versions

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("version", ["4.57.0", "5.3.9", "5.0", "4"])
def test_item_52_old_versions_are_refused(version):
    with pytest.raises(
        ImportError, match=r">= 5.4.0 and found .*tested with 5.4.0, 5.16.1, 5.23.0"
    ):
        versions.check_version(version)


@pytest.mark.parametrize("version", ["5.4", "5.4.0", "5.4.0.dev0", "5.16.1", "5.23.0", "6.0.0rc1"])
def test_item_52_newer_versions_are_tried(version):
    versions.check_version(version)


def test_item_52_missing_transformers_names_the_command(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match='pip install "transformers>=5.4"'):
        versions.check_version()


def test_item_52_a_changed_signature_names_the_parameter():
    def forward(self, hidden_states, mask): ...

    versions.require_parameters(forward, ("hidden_states",), "forward")
    with pytest.raises(RuntimeError, match=r"forward .* no parameter attention_mask; .*5.23.0"):
        versions.require_parameters(forward, ("hidden_states", "attention_mask"), "forward")


def test_functions_do_not_import_transformers():
    program = "import sys, masked_attn.functional, masked_attn.kv_cache, masked_attn.modules\n"
    program += "assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
