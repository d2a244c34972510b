"""setup.py: what it says when a build cannot start, what a wheel asks for, what a build leaves."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
LAST_LINE = "Then run: pip install --no-build-isolation ."


@pytest.fixture
def setup() -> ModuleType:
    """setup.py as a module: it builds only when it is run."""
    spec = importlib.util.spec_from_file_location("setup_under_test", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_path(folder: Path, *tools: str) -> str:
    """Return a PATH that holds nothing but programs of these names."""
    folder.mkdir(exist_ok=True)
    for tool in tools:
        (folder / tool).write_text("#!/bin/sh\n")
        (folder / tool).chmod(0o755)
    return str(folder)


def run_setup(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py as pip does."""
    return subprocess.run(
        [sys.executable, "setup.py", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "CXX": "", "MAX_JOBS": "", **environment},
        capture_output=True,
        text=True,
    )


def problems(setup: ModuleType) -> list[str]:
    """The lines of the message of a build that cannot start, without the first."""
    with pytest.raises(setup.BuildError) as caught:
        setup.checked_torch_version()
    empty, first, *lines, last = str(caught.value).split("\n")
    assert (empty, first, last) == ("", "masked_attn cannot be built.", "")
    return lines


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with everything that a build needs; tests take something away."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("MAX_JOBS", raising=False)
    monkeypatch.setenv("PATH", fake_path(tmp_path / "bin", "cmake", "ninja", "c++"))
    paths = {"scripts": str(tmp_path / "scripts"), "include": sysconfig.get_path("include")}
    monkeypatch.setattr(sysconfig, "get_path", paths.__getitem__)
    return tmp_path / "bin"


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("cmake", "cmake is missing: it is not on PATH. Run: pip install cmake"),
        ("ninja", "ninja is missing: it is not on PATH. Run: pip install ninja"),
        ("c++", "is not on PATH. Run: sudo apt-get install g++ (or set CXX to your compiler)"),
    ],
)
def test_a_missing_tool_is_named_with_the_command(
    setup: ModuleType, complete: Path, missing: str, command: str
) -> None:
    assert setup.checked_torch_version() == torch.__version__
    (complete / missing).unlink()
    line, last = problems(setup)
    assert line.startswith("- ") and line.endswith(command)
    assert last == LAST_LINE


def test_a_tool_of_an_environment_that_is_not_activated_is_found(
    setup: ModuleType, complete: Path, tmp_path: Path
) -> None:
    fake_path(tmp_path / "scripts", "cmake", "ninja")
    (complete / "cmake").unlink()
    assert setup.checked_torch_version() == torch.__version__
    assert setup.tool("cmake") == str(tmp_path / "scripts" / "cmake")
    assert setup.tool("ninja") == str(complete / "ninja")  # PATH comes first


def test_a_compiler_that_is_asked_for_must_exist(
    setup: ModuleType, complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -pipe")
    assert "no-such-compiler is not on PATH" in problems(setup)[0]


def test_missing_python_headers_are_named(
    setup: ModuleType, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "sudo apt-get install python3-dev" in problems(setup)[0]


def test_a_torch_that_isolation_hides_is_not_called_missing(
    setup: ModuleType, complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    line, last = problems(setup)
    folder = Path(torch.__file__).parents[1]
    assert line.startswith(f"- torch is hidden: it is installed in {folder}, but pip builds in an")
    assert last == "Run: pip install --no-build-isolation ."


@pytest.mark.parametrize(
    ("outside", "lines"),
    [
        ("/there\n65.5.0\n", ["torch is hidden", "setuptools is too old: 65.5.0, and 77 or"]),
        ("/there\n\n", ["torch is hidden", "setuptools is missing. Run: pip install 'setupt"]),
        ("\n65.5.0\n", ["torch is missing"]),  # pip has brought a new one of its own
    ],
)
def test_isolation_hides_an_old_setuptools_too(
    setup: ModuleType,
    complete: Path,
    monkeypatch: pytest.MonkeyPatch,
    outside: str,
    lines: list[str],
) -> None:
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = subprocess.CompletedProcess([], 0, stdout=outside)
    monkeypatch.setattr(setup.subprocess, "run", lambda *_, **__: done)
    *found, last = problems(setup)
    assert last == LAST_LINE
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(f"- {start}")


@pytest.mark.parametrize("words", [("egg_info",), ("dist_info",), ("editable_wheel",)])
def test_an_old_setuptools_is_one_line_and_not_its_schema(
    setup: ModuleType, complete: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(setup.setuptools, "__version__", "65.5.0")
    monkeypatch.setattr(setup, "setup", lambda **_: pytest.fail("setuptools was called"))
    with pytest.raises(SystemExit) as caught:
        setup.main(list(words))
    line, last = str(caught.value).splitlines()[2:]
    assert line.endswith("65.5.0, and 77 or newer is needed. Run: pip install 'setuptools>=77'")
    assert last == LAST_LINE


def test_a_build_without_torch_and_tools_names_all_at_once(tmp_path: Path) -> None:
    """And first of all, not after lines about copied files."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    result = run_setup(
        *("bdist_wheel", "--dist-dir", tmp_path),
        PATH=fake_path(tmp_path / "bin"),
        PYTHONPATH=str(tmp_path),
        MAX_JOBS="0",
    )
    assert (result.returncode, result.stdout) == (1, "")
    first, *lines, last = result.stderr.strip().splitlines()
    assert (first, last) == ("masked_attn cannot be built.", LAST_LINE)
    words = ["torch is missing", "cmake is", "ninja is", "A C++20 compiler is", "MAX_JOBS must be"]
    found = [line for line in lines if "are missing" not in line]  # headers of Python
    if shutil.which("cmake", path=sysconfig.get_path("scripts")):
        words.remove("cmake is")
    if shutil.which("ninja", path=sysconfig.get_path("scripts")):
        words.remove("ninja is")
    for line, word in zip(found, words, strict=True):
        assert line.startswith(f"- {word}")
    assert "(no torch here)" in lines[0] and "the CPU build from PyTorch's install page" in lines[0]


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_max_jobs_must_be_a_positive_integer(
    setup: ModuleType, complete: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MAX_JOBS", value)
    message = f"- MAX_JOBS must be a positive integer, got '{value}'. Run: unset MAX_JOBS"
    assert problems(setup) == [message, LAST_LINE]


def test_max_jobs_reaches_the_build(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_JOBS", "3")
    assert setup.max_jobs() == ["--parallel", "3"]
    monkeypatch.delenv("MAX_JOBS")
    assert setup.max_jobs() == []


def test_each_torch_and_python_has_its_own_build_folder(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {setup.build_folder("2.13.0+cpu"), setup.build_folder("2.13.0+cu130")}
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-399")
    folders.add(setup.build_folder("2.13.0+cpu"))
    assert len(folders) == 3


# --- what a wheel asks for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "needs"),
    [("2.13.0+cpu", "torch==2.13.*"), ("2.14.1", "torch==2.14.*"), ("3.0.0a0+git", "torch==3.0.*")],
)
def test_054_a_wheel_asks_for_the_minor_version_that_it_was_built_for(
    setup: ModuleType, version: str, needs: str
) -> None:
    assert setup.requirement(version) == needs


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        (["egg_info"], "torch>=2.13"),
        (["sdist"], "torch>=2.13"),
        (["dist_info"], None),
        (["editable_wheel"], None),
        (["bdist_wheel"], None),
    ],
)
def test_054_only_what_is_built_depends_on_the_torch_that_is_here(
    setup: ModuleType,
    complete: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    needs: str | None,
) -> None:
    told = {}
    monkeypatch.setattr(setup, "setup", told.update)
    setup.main(words)
    major, minor = torch.__version__.split(".")[:2]
    assert told["install_requires"] == [needs or f"torch=={major}.{minor}.*"]


# --- what a build leaves -----------------------------------------------------------------------


class FakeBuild:
    """A build folder with an empty precompiled header, a Ninja, and sources of three objects."""

    def __init__(self, setup: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.header = self.add("cmake_pch.hxx.gch", "precompiled")
        for name in "abc":
            self.add(f"{name}.o", "")
            self.add(name, "", 5)
        self.add("torch.h", "", 5)
        setup.empty(self.header)
        monkeypatch.setattr(setup, "_output", self.answer)

    def add(self, name: str, text: str, time: int = 10) -> Path:
        path = self.folder / "CMakeFiles" / "ops.dir" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time, time))
        return path

    def answer(self, *command: str) -> str:
        place = "CMakeFiles/ops.dir/"
        if command[-1] == "deps":
            lines = [f"{place}{name}.o: #deps 1 (VALID)\n    {place}{name}\n\n" for name in "abc"]
            header = f"{place}cmake_pch.hxx.gch: #deps 1 (VALID)\n    {place}torch.h\n\n"
            return "".join([*lines, header])
        assert command[-2:] == ("commands", place + "cmake_pch.hxx.gch")
        return f"echo made anew > {command[-1]}\n"


@pytest.fixture
def fake(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBuild:
    return FakeBuild(setup, tmp_path, monkeypatch)


def test_the_precompiled_header_goes_and_ninja_does_not_see_it(
    setup: ModuleType, fake: FakeBuild
) -> None:
    assert setup.precompiled_headers(fake.folder) == [fake.header]
    assert (fake.header.stat().st_size, fake.header.stat().st_mtime) == (0, 10)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ([], ""),
        (["a", "c"], ""),
        (["a", "b", "c"], "made anew\n"),
        (["a", "b", "c", "torch.h"], ""),  # Ninja makes it
    ],
)
def test_the_precompiled_header_comes_back_for_many_sources(
    setup: ModuleType, fake: FakeBuild, changed: list[str], text: str
) -> None:
    for name in changed:
        fake.add(name, "changed", 11)
    setup.fill(fake.header, fake.folder)
    assert (fake.header.read_text(), fake.header.stat().st_mtime) == (text, 10)


def test_a_precompiled_header_that_is_there_is_left_alone(
    setup: ModuleType, fake: FakeBuild
) -> None:
    for name in "abc":
        fake.add(name, "changed", 11)
    fake.header.write_text("precompiled")
    setup.fill(fake.header, fake.folder)
    assert fake.header.read_text() == "precompiled"


@pytest.mark.parametrize("deps", ["", "\n"])
def test_a_build_of_which_ninja_knows_nothing_is_not_stale(
    setup: ModuleType, tmp_path: Path, deps: str
) -> None:
    assert setup.stale_outputs(tmp_path, deps) == []


def test_a_site_of_the_outer_python_may_print(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    done = subprocess.CompletedProcess([], 0, stdout="hello from a .pth file\n/site\n80.1\n")
    monkeypatch.setattr(setup.subprocess, "run", lambda *_, **__: done)
    assert setup.hidden_torch() == ("/site", "80.1")
