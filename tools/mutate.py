"""Deliberate bugs: breaks the code once per entry of ``mutations.py`` and shows who notices.

    python tools/mutate.py                 # all of them, and a table at the end
    python tools/mutate.py --list
    python tools/mutate.py cache_one_slot_late top_left_causal

Works on a copy of the tracked files in a temporary folder, with the torch and the build tools of
the Python that runs it. The C++ tests, which take long to build, are asked only about bugs in C++
that no Python test notices. A mutation that nobody notices makes the exit status 1. What fails
without any bug counts for none. CMAKE_CXX_COMPILER_LAUNCHER=ccache makes it faster, MAX_JOBS limits
it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
BUILD = "build/mutants"  # as deep as other builds, for ccache
FAILED_PYTEST = re.compile(
    r"^(?:FAILED|ERROR) (\S+\.py(?:::[^\[\s]+(?:\[.*?\])?)?)(?= - |$)", re.MULTILINE
)
FAILED_CTEST = re.compile(r"^\s*\d+ - (.+) \([A-Za-z][^()]*\)\s*$", re.MULTILINE)
JOBS = os.environ.get("MAX_JOBS", "auto")


def copy_tracked_files(folder: Path) -> None:
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        if not (ROOT / name).is_file():  # deleted, but not yet committed
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def build(folder: Path, *, with_tests: bool = False) -> None:
    """Build in place; only what changed since the last build is compiled."""
    configure = ["cmake", "-S", ".", "-B", BUILD, "-G", "Ninja", "-DMASKED_ATTN_BUILD_TESTS=ON"]
    configure.append(f"-DPython3_EXECUTABLE={sys.executable}")
    compile_it = ["cmake", "--build", BUILD]
    if JOBS.isdigit():
        compile_it += ["--parallel", JOBS]
    if not with_tests:
        compile_it += ["--target", "masked_attn_ops", "_C"]
    for command in (configure, compile_it):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    copy_libraries(folder / BUILD, folder)


def copy_libraries(source: Path, folder: Path) -> None:
    for library in (*source.glob("_C*.so"), *source.glob("lib*.so")):
        shutil.copy2(library, folder / "python" / "masked_attn")


def failing_python(folder: Path, tests: Iterable[str]) -> list[str]:
    own = {"PYTHONPATH": "python", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    # The same examples of hypothesis each time.
    options = ["-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--numprocesses", JOBS]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = {**os.environ, **own}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode in (-signal.SIGKILL, -signal.SIGTERM):
        sys.exit("pytest was killed, by somebody else or for memory: this says nothing about a bug")
    failed = FAILED_PYTEST.findall(done.stdout)
    if done.returncode != 0 and not failed:
        failed = [f"pytest ended with {done.returncode}"]
    return failed


def failing_cpp(folder: Path) -> list[str]:
    build(folder, with_tests=True)
    jobs = JOBS if JOBS.isdigit() else str(os.cpu_count())
    command = ["ctest", "--test-dir", BUILD, "--timeout", "300", "--parallel", jobs]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return FAILED_CTEST.findall(done.stdout)


def is_cpp(mutation: Mutation) -> bool:
    return mutation.path.startswith("csrc")


def mutate(
    folder: Path, mutation: Mutation, find_failing: Callable[[Path], list[str]]
) -> list[str]:
    path = folder / mutation.path
    original = path.read_text()
    if original.count(mutation.old) != 1:
        sys.exit(f"{mutation.name}: its text must occur once in {mutation.path}")
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        if is_cpp(mutation):
            build(folder)
        return find_failing(folder)
    finally:
        path.write_text(original)


def run_all(folder: Path, chosen: list[Mutation]) -> list[tuple[Mutation, list[str]]]:
    copy_tracked_files(folder)
    if any(is_cpp(mutation) for mutation in chosen):
        build(folder)
    else:
        copy_libraries(ROOT / "python" / "masked_attn", folder)
    tests = dict.fromkeys(test for mutation in chosen for test in mutation.tests)
    usual = told(failing_python(folder, tests))
    results = []
    # Python first: a C++ bug stays in the library until the next build.
    for mutation in sorted(chosen, key=is_cpp):
        start = time.monotonic()
        failed = mutate(folder, mutation, partial(failing_python, tests=mutation.tests))
        results.append((mutation, [test for test in failed if test not in usual]))
        say(*results[-1], start)
    return [*ask_cpp_tests(folder, results)]


def ask_cpp_tests(
    folder: Path, results: list[tuple[Mutation, list[str]]]
) -> Iterable[tuple[Mutation, list[str]]]:
    """The results, with what the C++ tests say of C++ bugs that nobody has noticed."""
    usual: set[str] | None = None
    for mutation, noticed in results:
        if not noticed and is_cpp(mutation):
            usual = told(failing_cpp(folder)) if usual is None else usual
            start = time.monotonic()
            failed = mutate(folder, mutation, failing_cpp)
            noticed = [test for test in failed if test not in usual]
            say(mutation, noticed, start)
        yield mutation, noticed


def told(usual: list[str]) -> set[str]:
    for test in usual:
        print(f"fails without any bug, so it counts for none: {test}", flush=True)
    return set(usual)


def say(mutation: Mutation, noticed: list[str], start: float) -> None:
    seconds = round(time.monotonic() - start)
    print(f"{mutation.name}: {len(noticed)} tests notice ({seconds} s)", flush=True)


def table(results: list[tuple[Mutation, list[str]]]) -> str:
    lines = ["| planted bug | file | tests that notice | the first of them |", "|---|---|---|---|"]
    for mutation, noticed in results:
        first = noticed[0] if noticed else "**none**"
        lines.append(f"| {mutation.name} | {mutation.path} | {len(noticed)} | {first} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Show which tests notice deliberate bugs.")
    parser.add_argument("names", nargs="*", help="mutations to try (default: all)")
    parser.add_argument("--list", action="store_true", help="list the mutations and stop")
    options = parser.parse_args()
    unknown = set(options.names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    if options.list:
        print("\n".join(f"{m.name}: {m.path}" for m in MUTATIONS))
        return 0
    chosen = [m for m in MUTATIONS if not options.names or m.name in options.names]
    with tempfile.TemporaryDirectory(prefix="masked_attn_mutants_") as name:
        results = run_all(Path(name), chosen)
    print(table(results))
    survivors = sum(not noticed for _, noticed in results)
    print(f"{len(results)} planted bugs, {survivors} not noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
