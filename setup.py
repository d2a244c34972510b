"""Drives CMake for pip. CMakeLists.txt is the description of the build: no source or flag here.

The module can be imported for its functions (`make` and the tests do); only running it builds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TARGETS = {
    "masked_attn._C": "_C",
    "masked_attn.libmasked_attn_kernels": "masked_attn_kernels_shared",
    "masked_attn.libmasked_attn_ops": "masked_attn_ops",
}
# Commands that need torch, by their names in the words that pip and others give to this file. An
# archive of the sources (sdist) and the question what a build needs (egg_info) do without.
BUILD_COMMANDS = {
    *("dist_info", "bdist_wheel", "editable_wheel", "build", "build_ext", "install", "develop"),
}
OLDEST_TORCH = "torch>=2.13"
QUICK = 2  # so many sources compile sooner without a precompiled header than with a new one
OLDEST_SETUPTOOLS = 77  # reads `license = "..."` in pyproject.toml

STOP = "\nmasked_attn cannot be built.\n- {problems}\n{then}: pip install --no-build-isolation .\n"
SEPARATOR = "\n- "
TORCH_MISSING = (
    "torch is missing: {python} cannot import it ({error}). masked_attn is compiled against the "
    "torch that is installed, so install torch first, for example the CPU build from PyTorch's "
    "install page. If it is there, a tool that builds in an environment of its own hides it: say "
    "uv pip install --no-build-isolation ., or python -m build --no-isolation. "
    "Run: pip install torch"
)
TORCH_HIDDEN = (
    "torch is hidden: it is installed in {folder}, but pip builds in an isolated environment that "
    "sees nothing of that, unless it is told otherwise."
)
SETUPTOOLS_OLD = (
    f"setuptools is too old: {{version}}, and {OLDEST_SETUPTOOLS} or newer is needed. "
    f"Run: pip install 'setuptools>={OLDEST_SETUPTOOLS}'"
)
SETUPTOOLS_MISSING = f"setuptools is missing. Run: pip install 'setuptools>={OLDEST_SETUPTOOLS}'"
TOOL_MISSING = "{tool} is missing: it is not on PATH. Run: pip install {tool}"
COMPILER_MISSING = (
    "A C++20 compiler is missing: {names} is not on PATH. "
    "Run: sudo apt-get install g++ (or set CXX to your compiler)"
)
HEADERS_MISSING = (
    "The headers of Python are missing: there is no {header}. "
    "Run: sudo apt-get install python3-dev (or your system's package of that kind)"
)
BAD_MAX_JOBS = "MAX_JOBS must be a positive integer, got {value!r}. Run: unset MAX_JOBS"

# What Python finds where isolation does not reach: the folder of torch, the version of setuptools.
OUTSIDE = """
import importlib.metadata, importlib.util, os
torch = importlib.util.find_spec("torch")
print(os.path.dirname(os.path.dirname(torch.origin)) if torch and torch.origin else "")
try:
    print(importlib.metadata.version("setuptools"))
except importlib.metadata.PackageNotFoundError:
    print("")
"""


class BuildError(Exception):
    """A build that cannot start; the message says what to run."""


def torch_version() -> str:
    """Return the version of the installed torch."""
    try:
        import torch
    except Exception as error:  # a broken torch raises OSError and others
        raise BuildError(TORCH_MISSING.format(python=sys.executable, error=error)) from None
    return str(torch.__version__)


def hidden_torch() -> tuple[str, str]:
    """Return the folder of a torch that isolation hides, "" for none, and setuptools' version."""
    if importlib.util.find_spec("torch") is not None:
        return "", setuptools.__version__
    command = [sys.executable, "-E", "-c", OUTSIDE]  # -E: pip isolates with PYTHONPATH
    done = subprocess.run(command, cwd=os.sep, capture_output=True, text=True)
    # A file of the outer Python's site may print lines of its own before ours.
    answer = done.stdout.splitlines()[-2:] if done.returncode == 0 else []
    folder, version = answer if len(answer) == 2 else ("", "")
    return (folder, version) if folder else ("", setuptools.__version__)


def requirement(torch: str) -> str:
    """Return what a wheel built against this torch needs: C++ changes with every minor version.

    Example:
        >>> requirement("2.13.1+cpu")
        'torch==2.13.*'
    """
    major, minor = torch.split(".")[:2]
    return f"torch=={major}.{minor}.*"


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


def tool(name: str) -> str | None:
    """Return the path of a program: from PATH, or beside Python, where pip puts those it installs.

    The latter is not on PATH when a virtual environment is used without being activated.
    """
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


def old_setuptools(version: str) -> list[str]:
    """Return a message if setuptools is too old: it would print its schema of pyproject.toml."""
    if not version:
        return [SETUPTOOLS_MISSING]
    old = int(version.split(".")[0]) < OLDEST_SETUPTOOLS
    return [SETUPTOOLS_OLD.format(version=version)] if old else []


def missing_tools() -> list[str]:
    """Return one message, with the command to run, for each thing that a build lacks."""
    missing = [TOOL_MISSING.format(tool=name) for name in ("cmake", "ninja") if tool(name) is None]
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
    version, problems = "", []
    folder, version_of_setuptools = hidden_torch()
    try:
        if folder:
            problems.append(TORCH_HIDDEN.format(folder=folder))
        else:
            version = torch_version()
    except BuildError as error:
        problems.append(str(error))
    problems += old_setuptools(version_of_setuptools) + missing_tools()
    try:
        max_jobs()
    except BuildError as error:
        problems.append(str(error))
    if problems:
        raise stop(problems)
    return version


def stop(problems: list[str]) -> BuildError:
    """Return one message of all problems, which ends with the command that builds."""
    # A hidden torch needs no other command than the last.
    then = "Run" if all("Run: " not in problem for problem in problems) else "Then run"
    return BuildError(STOP.format(problems=SEPARATOR.join(problems), then=then))


def cmake(*words: str) -> None:
    """Run CMake, from PATH or from beside Python, with its Ninja."""
    subprocess.run([str(tool("cmake")), *words], check=True)


def precompiled_headers(folder: Path) -> list[Path]:
    """Return the precompiled headers of GCC: one of 400 MB, in a folder of 12 MB without it."""
    return list(folder.glob("CMakeFiles/*/cmake_pch.hxx.gch"))


def empty(header: Path) -> None:
    """Give its space back and keep its time, so that Ninja compiles nothing anew.

    GCC takes the plain header where the precompiled one is empty, and needs 10 seconds more.
    """
    before = header.stat()
    os.truncate(header, 0)
    os.utime(header, ns=(before.st_atime_ns, before.st_mtime_ns))


def fill(header: Path, folder: Path) -> None:
    """Make an empty precompiled header again, if more sources changed than compile quickly."""
    if header.stat().st_size:
        return
    name = str(header.relative_to(folder))
    ninja = [str(tool("ninja")), "-C", str(folder), "-t"]
    stale = stale_outputs(folder, _output(*ninja, "deps"))
    changed = [output for output in stale if output.startswith(os.path.dirname(name))]
    if name in changed or len(changed) <= QUICK:
        return  # Ninja will make it, or it is not worth the half minute that it takes
    before = header.stat()
    subprocess.run(_output(*ninja, "commands", name), shell=True, cwd=folder, check=True)
    os.utime(header, ns=(before.st_atime_ns, before.st_mtime_ns))


def stale_outputs(folder: Path, deps: str) -> list[str]:
    """Return the outputs that are older than something they were made from.

    Args:
        folder: of the build.
        deps: what `ninja -t deps` prints: a line for each output, then its files, then a blank one.
    """
    times: dict[Path, float] = {}

    def time(name: str) -> float:
        path = folder / name
        if path not in times:
            times[path] = path.stat().st_mtime if path.exists() else math.inf
        return times[path]

    stale = []
    for block in filter(None, deps.strip().split("\n\n")):
        first, *files = block.splitlines()
        output = first.partition(": #deps")[0]
        if any(time(file.strip()) > time(output) for file in files):
            stale.append(output)
    return stale


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(version: str) -> Path:
    """Build all libraries with CMake, for this torch, and return the folder that holds them."""
    folder = build_folder(version)
    configure = ["-S", str(ROOT), "-B", str(folder), "-G", "Ninja"]
    configure += [f"-DPython3_EXECUTABLE={sys.executable}", "-DMASKED_ATTN_BUILD_TESTS=OFF"]
    cmake(*configure, f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}")
    for header in precompiled_headers(folder):
        with contextlib.suppress(subprocess.CalledProcessError, OSError, ValueError):
            fill(header, folder)  # it saves time only: the build is right without
    cmake("--build", str(folder), *max_jobs(), "--target", *TARGETS.values())
    for header in precompiled_headers(folder):
        empty(header)
    package = folder / "package"
    cmake("--install", str(folder), "--component", "package", "--prefix", str(package))
    return package


class CMakeBuild(build_ext):
    """Builds all libraries with CMake and puts them where setuptools expects them."""

    def build_extensions(self) -> None:
        try:
            package = build(torch_version())
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"\nmasked_attn cannot be built: see above ({error}).\n") from None
        for extension in self.extensions:
            target = Path(self.get_ext_fullpath(extension.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(package / target.name), str(target))

    def get_ext_filename(self, fullname: str) -> str:
        """A plain library is no Python module, so its name has no Python tag."""
        *folders, name = fullname.split(".")
        if name.startswith("lib"):
            return os.path.join(*folders, name + ".so")
        return str(super().get_ext_filename(fullname))


class FreshBuildPy(build_py):
    """Empties the staging folder, so that a file deleted from the source is not installed."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "masked_attn", ignore_errors=True)
        super().run()


def main(words: list[str]) -> None:
    """Check what a build needs before anything else is printed, then do as setuptools is told."""
    needs = OLDEST_TORCH
    try:
        if BUILD_COMMANDS.intersection(words):
            needs = requirement(checked_torch_version())
        elif old_setuptools(setuptools.__version__):
            checked_torch_version()
    except BuildError as error:
        raise SystemExit(str(error)) from None
    setup(
        install_requires=[needs],
        ext_modules=[Extension(name, sources=[]) for name in TARGETS],
        cmdclass={"build_ext": CMakeBuild, "build_py": FreshBuildPy},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
