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


def facts_of(version: str, *, cuda: str = "", kernels: bool = False) -> dict[str, object]:
    """What a library says of itself that was built against this torch."""
    return {"torch_version": version, "torch_cuda": cuda, "cuda": kernels}


def module_built_for(version: str) -> Callable[[str], SimpleNamespace]:
    return lambda name: SimpleNamespace(build_info=lambda: facts_of(version))


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
        f"masked_attn was built for torch 2.12.0+cpu, found {torch.__version__}; "
        f"in the folder of its sources run: {REBUILD}"
    )


@pytest.mark.parametrize(
    ("facts", "version", "cuda"),
    [
        (facts_of("2.13.0+cpu"), "2.13.0+cpu", None),
        (facts_of("2.13.0+cpu"), "2.13.1+cpu", None),
        (facts_of("2.13.0"), "2.13.0+cpu", None),
        (facts_of("2.13.0+cpu"), "2.13.1+cu130", "13.0"),
        (facts_of("2.13.0+cu130", cuda="13.0"), "2.13.0+cpu", None),  # built without nvcc
        (facts_of("2.13.0+cu130", cuda="13.0", kernels=True), "2.13.2+cu131", "13.1"),
    ],
)
def test_054_a_torch_of_the_same_minor_version_is_taken(
    facts: dict[str, object], version: str, cuda: str | None
) -> None:
    _library.check_built_for(facts, version, cuda)


CUDA_KERNELS = facts_of("2.13.0+cu130", cuda="13.0", kernels=True)


@pytest.mark.parametrize(
    ("facts", "version", "cuda", "message"),
    [
        (facts_of("2.13.0+cpu"), "2.14.0+cpu", None, "built for torch 2.13.0+cpu, found 2.14.0"),
        (facts_of("2.13.0+cpu"), "2.130.0+cpu", None, "built for torch 2.13.0+cpu, found 2.130"),
        (facts_of("2.13.0+cpu"), "3.13.0+cpu", None, "built for torch 2.13.0+cpu, found 3.13"),
        (
            *(CUDA_KERNELS, "2.13.0+cpu", None),
            "built with CUDA 13.0 kernels, and torch 2.13.0+cpu is a build for the CPU; ",
        ),
        (
            *(CUDA_KERNELS, "2.13.0+cu128", "12.8"),
            "built with CUDA 13.0 kernels, and torch 2.13.0+cu128 is a build for CUDA 12.8; ",
        ),
    ],
)
def test_054_a_torch_that_cannot_load_it_is_refused(
    facts: dict[str, object], version: str, cuda: str | None, message: str
) -> None:
    with pytest.raises(ImportError) as caught:
        _library.check_built_for(facts, version, cuda)
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"in the folder of its sources run: {REBUILD}")


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


def test_a_missing_library_of_the_kernels_says_how_to_rebuild(tmp_path: Path) -> None:
    copy = tmp_path / "masked_attn"
    kernels = shutil.ignore_patterns("libmasked_attn_kernels.so", "demo_model")
    shutil.copytree(PACKAGE, copy, ignore=kernels)
    result = run_python("import masked_attn", tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode != 0
    assert "masked_attn cannot load masked_attn._C (libmasked_attn_kernels.so" in result.stderr
    assert REBUILD in result.stderr


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
    (copy / "_C.py").write_text(f"def build_info(): return {facts_of('1.0.0')}\n")
    result = run_python("import masked_attn", tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode != 0
    assert "masked_attn was built for torch 1.0.0, found" in result.stderr


def test_the_version_has_one_source() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{_C.build_info()["version"]}"' in text


def test_the_kernels_and_the_choice_among_them_are_there_once(tmp_path: Path) -> None:
    """What the module says is what the operators do, also when the environment changes later."""
    code = (
        "import os, torch, masked_attn\n"
        "print(masked_attn._C.selected_instruction_set())\n"
        "os.environ['MASKED_ATTN_ISA'] = 'nonsense'\n"
        "masked_attn.masked_softmax(torch.ones(1, 1, 1, 1))\n"
    )
    result = run_python(code, tmp_path, MASKED_ATTN_ISA="scalar")
    assert (result.returncode, result.stdout) == (0, "scalar\n"), result.stderr
    others = [path for path in PACKAGE.glob("*.so") if "kernels" not in path.name]
    assert others and max(path.stat().st_size for path in others) < 2**20


def test_build_facts_name_this_build() -> None:
    facts = _C.build_info()
    assert facts["torch_cuda"] == (torch.version.cuda or "")
    assert facts["torch_version"] == str(torch.__version__)
    assert facts["cxx11_abi"] == torch._C._GLIBCXX_USE_CXX11_ABI
    assert facts["instruction_sets"][0] == "scalar"
    assert facts["cuda"] or facts["cuda_reason"]


@pytest.mark.skipif(_C.build_info()["cuda"], reason="this build has CUDA kernels")
class TestWithoutCudaKernels:
    """A library for the CPU loads into a CUDA build of torch, whose tensors then need an answer."""

    def test_054_tensors_on_a_gpu_hear_what_is_missing(self) -> None:
        keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)  # as if the mask were on a GPU
        call = torch.ops.masked_attn.expand_mask.default.redispatch
        with pytest.raises(NotImplementedError) as caught:
            call(keys, torch.ones(1, 1), dtype=torch.float32)
        reason = _C.build_info()["cuda_reason"]
        start = "masked_attn::expand_mask: this library has no CUDA kernels, since when it was "
        start += f"built {reason}"
        assert str(caught.value).startswith(start)

    def test_054_every_operator_says_so(self) -> None:
        names = [
            name
            for name in torch._C._dispatch_get_all_op_names()
            if name.startswith("masked_attn::")
            and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
        ]
        assert len(names) > 5
        for name in names:
            assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"), name


def test_an_unknown_instruction_set_is_refused_and_the_sets_are_listed(tmp_path: Path) -> None:
    code = "import masked_attn; masked_attn._C.selected_instruction_set()"
    result = run_python(code, tmp_path, MASKED_ATTN_ISA="nonsense")
    assert result.returncode != 0
    assert "MASKED_ATTN_ISA=nonsense" in result.stderr
    for name in _C.instruction_sets():
        assert name in result.stderr
