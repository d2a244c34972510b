"""CMake: what it says when something is missing, and what it promises about its objects."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
CMAKE = shutil.which("cmake")

needs_cmake = pytest.mark.skipif(
    CMAKE is None or shutil.which("ninja") is None or COMPILER is None,
    reason="cmake, ninja or a compiler is not on PATH",
)


def run(*command: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "CXX": "", "MAX_JOBS": "", **environment},
        capture_output=True,
        text=True,
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """Both outputs with every run of blanks as one: CMake breaks lines where it likes."""
    return re.sub(r"\s+", " ", result.stdout + result.stderr)


# --- CMake -------------------------------------------------------------------------------------


def write_fake_cuda_torch(folder: Path) -> None:
    """A package that looks like a CUDA build of torch to CMake's first half."""
    package = folder / "torch"
    (package / "lib").mkdir(parents=True)
    (package / "include").mkdir()
    for name in ("torch", "torch_cpu", "c10"):
        (package / "lib" / f"lib{name}.so").touch()
    (package / "__init__.py").write_text(
        "__version__ = '2.13.0+cu130'\n"
        "class version: cuda = '13.0'\n"
        "class _C: _GLIBCXX_USE_CXX11_ABI = True\n"
    )


NO_TOOLKIT = "torch 2.13.0+cu130 is a CUDA build, but no CUDA toolkit (nvcc) was found"
OTHER_TOOLKIT = "torch 2.13.0+cu130 was built with CUDA 13.0, and {} is CUDA 12.8"


@needs_cmake
@pytest.mark.parametrize("release", [None, "12.8", "broken"])
def test_a_cuda_torch_without_its_toolkit_builds_for_the_cpu_and_says_so(
    tmp_path: Path, release: str | None
) -> None:
    write_fake_cuda_torch(tmp_path)
    nvcc = tmp_path / "nvcc"
    says = "exit 1" if release == "broken" else f'echo "Cuda compilation tools, release {release}"'
    nvcc.write_text(f"#!/bin/sh\n{says}\n")
    nvcc.chmod(0o755)
    result = run(
        *(CMAKE, "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja"),
        *(f"-DPython3_EXECUTABLE={sys.executable}", "-DMASKED_ATTN_BUILD_PYTHON=OFF"),
        f"-DMASKED_ATTN_NVCC={nvcc if release else 'OFF'}",
        PYTHONPATH=str(tmp_path),
    )
    text = one_line(result)
    assert result.returncode == 0, text
    reasons = {None: NO_TOOLKIT, "12.8": OTHER_TOOLKIT, "broken": "{} --version did not tell"}
    assert reasons[release].format(nvcc) in text
    assert "building for the CPU only. For CUDA kernels install CUDA toolkit 13.0" in text


@needs_cmake
def test_cmake_without_torch_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    result = run(
        *(CMAKE, "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja"),
        f"-DPython3_EXECUTABLE={sys.executable}",
        PYTHONPATH=str(tmp_path),
    )
    assert result.returncode != 0
    assert "torch is missing" in one_line(result)
    assert "pip install --no-build-isolation ." in one_line(result)


@needs_cmake
def test_kernels_configure_without_torch_or_python(tmp_path: Path) -> None:
    result = run(
        *(CMAKE, "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DMASKED_ATTN_BUILD_OPS=OFF"),
        "-DPython3_EXECUTABLE=/nowhere/python3",
    )
    assert result.returncode == 0, one_line(result)
    rules = (tmp_path / "build.ninja").read_text()
    assert "libmasked_attn_kernels.a" in rules
    assert "libmasked_attn_ops.so" not in rules


def compile_as(folder: Path, name: str, source: str, *flags: str) -> str:
    """Compile one source and return the argument that hands it to check_isa.cmake as ``name``."""
    assert COMPILER is not None
    (folder / f"{name}.cpp").write_text(source)
    (folder / f"{name}.txt").write_text(f"{folder / name}.o\n")
    result = run(COMPILER, "-O2", *flags, "-c", f"{name}.cpp", "-o", f"{name}.o", cwd=folder)
    assert result.returncode == 0, result.stderr
    return f"-D{name}={folder / name}.txt"


def check_isa(*lists: str) -> subprocess.CompletedProcess[str]:
    tools = ("-DOBJDUMP=objdump", "-DNM=nm")
    return run(CMAKE, *tools, *lists, "-P", ROOT / "cmake" / "check_isa.cmake")


SUM = """
float sum(const float* x, int n) {
  float s = 0;
  for (int i = 0; i < n; ++i) s += x[i];
  return s;
}
"""
FUSED = "#include <immintrin.h>\n__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }\n"
WIDE = "#include <immintrin.h>\n__m512 f(__m512 a) { return _mm512_add_ps(a, a); }\n"
WEAK = """
namespace PLACE {
template <class T> __attribute__((noinline)) T twice(T x) { return x + x; }
}
int f(int x) { return PLACE::twice(x); }
"""
AVX2 = ("-mavx2", "-mfma", "-mf16c")


@needs_cmake
@pytest.mark.skipif(
    os.uname().machine != "x86_64" or shutil.which("objdump") is None,
    reason="needs x86-64 and objdump",
)
class TestInstructionSetsStayApart:
    def test_good_objects_pass(self, tmp_path: Path) -> None:
        result = check_isa(
            compile_as(tmp_path, "scalar", SUM),
            compile_as(tmp_path, "avx2", FUSED + WEAK.replace("PLACE", "avx2"), *AVX2),
            compile_as(tmp_path, "avx512", WIDE, "-mavx512f"),
        )
        assert result.returncode == 0, one_line(result)

    @pytest.mark.parametrize("name", ["common", "scalar"])
    @pytest.mark.parametrize("source", [SUM, FUSED], ids=["vex", "fma"])
    def test_avx_outside_its_objects_fails(self, tmp_path: Path, name: str, source: str) -> None:
        result = check_isa(compile_as(tmp_path, name, source, *AVX2))
        assert result.returncode != 0
        assert f"{name}/{name}.o: has an instruction of another set" in one_line(result)

    def test_avx512_in_avx2_objects_fails(self, tmp_path: Path) -> None:
        result = check_isa(compile_as(tmp_path, "avx2", WIDE, "-mavx512f"))
        assert result.returncode != 0

    @pytest.mark.parametrize("name", ["avx512", "avx512_bf16", "amx_stand_in"])
    @pytest.mark.parametrize("instruction", ["tilezero %tmm3", "tilerelease"])
    def test_tiles_outside_their_objects_fail(
        self, tmp_path: Path, name: str, instruction: str
    ) -> None:
        source = f'void f() {{ asm volatile("{instruction}"); }}'
        assert check_isa(compile_as(tmp_path, "amx", source)).returncode == 0
        result = check_isa(compile_as(tmp_path, name, source))
        assert f"{name}/{name}.o: has an instruction of another set" in one_line(result)

    @pytest.mark.parametrize("name", ["avx2", "avx512", "amx"])
    def test_a_weak_symbol_that_others_may_share_fails(self, tmp_path: Path, name: str) -> None:
        result = check_isa(compile_as(tmp_path, name, WEAK.replace("PLACE", "shared"), *AVX2))
        assert result.returncode != 0
        assert "weak symbol outside its namespace" in one_line(result)

    def test_no_object_at_all_fails(self) -> None:
        assert check_isa().returncode != 0


# --- the source archive ------------------------------------------------------------------------


def test_the_source_archive_holds_what_a_build_needs_and_no_binary(tmp_path: Path) -> None:
    result = run(
        *(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path),
        *("sdist", "--dist-dir", tmp_path),
    )
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = ["CMakeLists.txt", "pyproject.toml", "setup.py", "cmake/torch.cmake"]
    wanted += [
        path.relative_to(ROOT).as_posix()
        for folder in ("csrc", "cmake", "python/masked_attn/demo_model")
        for path in (ROOT / folder).rglob("*.*")
        if path.is_file()
    ]
    assert set(wanted) <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]
