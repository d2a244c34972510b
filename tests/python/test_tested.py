"""One list of tested releases; the extras, ``make`` and ``make newer`` follow it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from masked_attn import tested

ROOT = Path(__file__).resolve().parents[2]
ANSWER = """\
transformers (6.1.0)
Available versions: 6.1.0, 6.0.0rc1, 6.0.0, {newest}.1, {newest}, 5.4.0, 5.4.0.dev1
  INSTALLED: 5.4.0
  LATEST:    6.1.0
"""


@pytest.fixture
def tool() -> ModuleType:
    """tools/newer_releases.py as a module."""
    file = ROOT / "tools" / "newer_releases.py"
    spec = importlib.util.spec_from_file_location("newer_releases", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer_of_pip(monkeypatch: pytest.MonkeyPatch, out: str, status: int = 0) -> list[list[str]]:
    """From now on pip answers this; returns the commands that it is given."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, status, out, "a warning\nno network\n")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_68_the_extras_are_capped_at_what_is_tested() -> None:
    oldest, newest = tested.TRANSFORMERS[0], tested.TRANSFORMERS[-1]
    major, minor, _ = newest.split(".")
    wanted = f"transformers>={oldest.removesuffix('.0')},<{major}.{int(minor) + 1}"
    extras = re.findall(r'"(transformers>[^"]*)"', (ROOT / "pyproject.toml").read_text())
    assert extras == [wanted, wanted]


def test_make_installs_the_newest_torch_that_is_tested() -> None:
    (default,) = re.findall(r"(?m)^TORCH \?= torch==(.*)$", (ROOT / "Makefile").read_text())
    assert default == tested.TORCH[-1]


def test_68_make_pins_no_transformers() -> None:
    assert "transformers" not in (ROOT / "tools" / "requirements-dev.txt").read_text()
    assert re.search(r"(?m)^TRANSFORMERS \?= transformers$", (ROOT / "Makefile").read_text())
    assert "[hf" not in (ROOT / "tools" / "build.sh").read_text(), "the extra caps it"


def test_68_a_newer_release_is_told(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = tested.TRANSFORMERS[-1]
    commands = answer_of_pip(monkeypatch, ANSWER.format(newest=newest))
    monkeypatch.setattr(tool, "TESTED", {"transformers": tested.TRANSFORMERS})
    assert tool.compare() == 1
    assert capsys.readouterr().out == (
        f"transformers: newer than the newest tested, {newest}: {newest}.1, 6.0.0, 6.1.0\n"
    )
    assert commands == [[sys.executable, "-m", "pip", "index", "versions", "transformers"]]
    assert tool.transformers_to_test(tool.offered("transformers")) == [
        *tested.TRANSFORMERS,
        "6.1.0",
    ]


def test_68_nothing_newer(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_of_pip(monkeypatch, f"Available versions: {tested.TORCH[-1]}+cpu, {tested.TORCH[-1]}\n")
    monkeypatch.setattr(tool, "TESTED", {"torch": tested.TORCH})
    assert tool.compare() == 0
    assert "the newest release is tested" in capsys.readouterr().out


@pytest.mark.parametrize(("out", "status"), [("", 1), ("nothing of use\n", 0)])
def test_a_pip_that_does_not_answer_is_neither(
    tool: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    out: str,
    status: int,
) -> None:
    answer_of_pip(monkeypatch, out, status)
    monkeypatch.setattr(sys, "argv", ["newer_releases.py"])
    assert tool.main() == 2
    assert "pip could not be asked for transformers: no network" in capsys.readouterr().err


def test_builds_of_torch_for_the_cpu_are_tested_and_the_others_named(tool: ModuleType) -> None:
    found = ["2.12.0+cpu", "2.13.0", "2.13.0+cpu", "2.14.0", "2.14.1+cpu", "2.14.1", "2.15.0+cu130"]
    assert tool.torch_builds(found) == (["2.13.0+cpu", "2.14.1+cpu"], ["2.14.0", "2.15.0"])


def test_68_an_untested_installation_is_told(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"transformers": "6.1.0", "torch": f"{tested.TORCH[-1]}+cpu"}
    monkeypatch.setattr(tool.metadata, "version", versions.__getitem__)
    tool.warn_of_installed()
    assert capsys.readouterr().out == (
        "warning: transformers 6.1.0 is untested so far; "
        f"tested: {', '.join(tested.TRANSFORMERS)}\n"
    )


def test_the_tool_names_no_host() -> None:
    assert "://" not in (ROOT / "tools" / "newer_releases.py").read_text()
