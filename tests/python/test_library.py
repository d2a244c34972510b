"""Loading the library: what an import says when it was not built, or built for something else."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from masked_attn import _C, _library

PACKAGE = Path(_library.__file__).parent
REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps ."


def run_python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The loader as in a new process, with an empty package folder, which it returns."""
    monkeypatch.setattr(_library, "_module", None)
    monkeypatch.setattr(_library, "_FOLDER", tmp_path)
    return tmp_path


def module_built_for(version: str) -> Callable[[str], SimpleNamespace]:
    return lambda name: SimpleNamespace(build_info=lambda: {"torch_version": version})


def no_module(name: str) -> ModuleType:
    raise ModuleNotFoundError(f"No module named {name!r}")


def test_054_a_library_built_for_another_torch_says_how_to_rebuild(
    unloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", module_built_for("2.12.0+cpu"))
    # The check comes first: loading this file would fail with another message.
    (unloaded / _library.LIBRARY_NAME).write_text("not a library")
    with pytest.raises(ImportError) as caught:
        _library.load()
    assert str(caught.value) == (
        f"masked_attn was built for torch 2.12.0+cpu, found {torch.__version__}; run: {REBUILD}"
    )


def test_a_package_that_was_not_built_says_so(
    unloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", no_module)
    with pytest.raises(ImportError, match="is not built") as caught:
        _library.load()
    assert "pip install --no-build-isolation ." in str(caught.value)


def test_a_package_built_for_another_python_says_so(
    unloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", no_module)
    (unloaded / "_C.cpython-399-x86_64-linux-gnu.so").touch()
    with pytest.raises(ImportError, match="built for another Python .*cpython-399") as caught:
        _library.load()
    assert REBUILD in str(caught.value)


def test_a_missing_operator_library_is_named(
    unloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", module_built_for(str(torch.__version__)))
    with pytest.raises(ImportError, match="there is no libmasked_attn_ops.so"):
        _library.load()


def test_a_library_that_cannot_be_loaded_says_how_to_rebuild(
    unloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", module_built_for(str(torch.__version__)))
    (unloaded / _library.LIBRARY_NAME).write_text("not a library")
    with pytest.raises(ImportError, match="cannot load") as caught:
        _library.load()
    assert REBUILD in str(caught.value)


def test_055_loading_twice_is_harmless() -> None:
    assert _library.load() is _library.load()
    _library._load_operators(_library.library_path())
    assert _library.library_path().exists()


def test_import_works_from_another_directory_and_twice(tmp_path: Path) -> None:
    code = (
        "import importlib, sys, masked_attn\n"
        "for name in list(sys.modules):\n"
        "    if name.startswith('masked_attn'): del sys.modules[name]\n"
        "import masked_attn, torch\n"
        "print(masked_attn.expand_mask(torch.tensor([[1]]), dtype=torch.float32).shape)"
    )
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "torch.Size([1, 1, 1, 1])" in result.stdout


def test_054_an_import_without_torch_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    result = run_python("import masked_attn", tmp_path, PYTHONPATH=f"{tmp_path}:{PACKAGE.parent}")
    assert result.returncode != 0
    assert "masked_attn needs torch" in result.stderr
    assert "the CPU build from PyTorch's install page" in result.stderr


def test_054_importing_the_package_checks_its_torch(tmp_path: Path) -> None:
    copy = tmp_path / "masked_attn"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "demo_model"))
    (copy / "_C.py").write_text("def build_info(): return {'torch_version': '1.0.0'}\n")
    result = run_python("import masked_attn", tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode != 0
    assert "masked_attn was built for torch 1.0.0, found" in result.stderr


def test_the_version_has_one_source() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{_C.build_info()["version"]}"' in text


def test_build_facts_name_this_build() -> None:
    facts = _C.build_info()
    assert facts["torch_version"] == str(torch.__version__)
    assert facts["cxx11_abi"] == torch._C._GLIBCXX_USE_CXX11_ABI
    assert facts["instruction_sets"][0] == "scalar"
    assert facts["cuda"] or facts["cuda_reason"]


def test_an_unknown_instruction_set_is_refused_and_the_sets_are_listed(tmp_path: Path) -> None:
    code = "import masked_attn; masked_attn._C.selected_instruction_set()"
    result = run_python(code, tmp_path, MASKED_ATTN_ISA="nonsense")
    assert result.returncode != 0
    assert "MASKED_ATTN_ISA=nonsense" in result.stderr
    for name in _C.instruction_sets():
        assert name in result.stderr
