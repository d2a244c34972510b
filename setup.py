"""Drives CMake for pip. CMakeLists.txt is the description of the build: no source or flag here.

The module can be imported for its functions (`make` and the tests do); only running it builds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TARGETS = {"masked_attn._C": "_C", "masked_attn.libmasked_attn_ops": "masked_attn_ops"}
THEN = "then run: pip install --no-build-isolation ."
SEPARATOR = "\n- "

TORCH_MISSING = (
    "torch is missing: {python} cannot import it ({error}).\n"
    "masked_attn is compiled against the torch that is installed, so install torch first "
    "(for example the CPU build from PyTorch's install page: pip install torch), " + THEN
)
TOOL_MISSING = "{tool} is missing: it is not on PATH. Run: pip install {tool}, " + THEN
COMPILER_MISSING = (
    "A C++20 compiler is missing: {names} is not on PATH. "
    "Run: sudo apt-get install g++ (or set CXX to your compiler), " + THEN
)
HEADERS_MISSING = (
    "The headers of Python are missing: there is no {header}. "
    "Run: sudo apt-get install python3-dev (or your system's package of that kind), " + THEN
)
BAD_MAX_JOBS = "MAX_JOBS must be a positive integer, got {value!r}."


class BuildError(Exception):
    """A build that cannot start; the message says what to run."""


def torch_version() -> str:
    """Return the version of the installed torch."""
    try:
        import torch
    except Exception as error:  # a broken torch raises OSError and others
        raise BuildError(TORCH_MISSING.format(python=sys.executable, error=error)) from None
    return str(torch.__version__)


def build_folder(torch: str) -> Path:
    """Return the CMake folder, one for each torch and Python: objects of another are never used."""
    return ROOT / "build" / f"{sys.implementation.cache_tag}-torch-{torch}"


def max_jobs() -> list[str]:
    """Return the arguments of `cmake --build` that keep to MAX_JOBS."""
    value = os.environ.get("MAX_JOBS", "")
    if not value:
        return []
    if not value.isdecimal() or int(value) == 0:
        raise BuildError(BAD_MAX_JOBS.format(value=value))
    return ["--parallel", value]


def missing_tools() -> list[str]:
    """Return one message, with the command to run, for each thing that a build lacks."""
    missing = [
        TOOL_MISSING.format(tool=tool) for tool in ("cmake", "ninja") if shutil.which(tool) is None
    ]
    compiler = os.environ.get("CXX", "").split()
    names = compiler[:1] or ["c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        missing.append(COMPILER_MISSING.format(names=" or ".join(names)))
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        missing.append(HEADERS_MISSING.format(header=header))
    return missing


def checked_torch_version() -> str:
    """Return the version of torch, or stop with everything that is missing, at once."""
    missing = missing_tools()
    try:
        version = torch_version()
    except BuildError as error:
        missing.insert(0, str(error))
    if missing:
        raise BuildError(SEPARATOR + SEPARATOR.join(missing))
    return version


def build() -> Path:
    """Build both libraries with CMake and return the folder that holds them."""
    jobs = max_jobs()
    folder = build_folder(checked_torch_version())
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja"]
    configure += [f"-DPython3_EXECUTABLE={sys.executable}", "-DMASKED_ATTN_BUILD_TESTS=OFF"]
    subprocess.run(configure, check=True)
    targets = ["--target", *TARGETS.values()]
    subprocess.run(["cmake", "--build", str(folder), *jobs, *targets], check=True)
    package = folder / "package"
    install = ["cmake", "--install", str(folder), "--component", "package"]
    subprocess.run([*install, "--prefix", str(package)], check=True)
    return package


class CMakeBuild(build_ext):
    """Builds both libraries with CMake and puts them where setuptools expects them."""

    def build_extensions(self) -> None:
        try:
            package = build()
        except BuildError as error:
            raise SystemExit(f"\nmasked_attn cannot be built.\n{error}\n") from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"\nmasked_attn cannot be built: see above ({error}).\n") from None
        for extension in self.extensions:
            target = Path(self.get_ext_fullpath(extension.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(package / target.name), str(target))

    def get_ext_filename(self, fullname: str) -> str:
        """The operator library is no Python module, so its name has no Python tag."""
        if fullname.endswith("libmasked_attn_ops"):
            return os.path.join(*fullname.split(".")) + ".so"
        return str(super().get_ext_filename(fullname))


class FreshBuildPy(build_py):
    """Empties the staging folder, so that a file deleted from the source is not installed."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "masked_attn", ignore_errors=True)
        super().run()


if __name__ == "__main__":
    setup(
        ext_modules=[Extension(name, sources=[]) for name in TARGETS],
        cmdclass={"build_ext": CMakeBuild, "build_py": FreshBuildPy},
    )
