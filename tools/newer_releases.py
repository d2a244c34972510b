"""Compares the releases that pip offers with those in python/masked_attn/tested.py.

Exit status: 0 nothing newer than what was tested; 1 something newer; 2 pip could not be asked.
"""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

TESTED_FILE = Path(__file__).resolve().parents[1] / "python" / "masked_attn" / "tested.py"
FACTS = runpy.run_path(str(TESTED_FILE))
TESTED: dict[str, tuple[str, ...]] = {
    "transformers": FACTS["TRANSFORMERS"],
    "torch": FACTS["TORCH"],
}
NO_CPU_BUILD = "pip offers no CPU build of it (a version that ends in +cpu)"


class NoAnswer(Exception):
    """pip could not be asked; the message says why."""


def number(version: str) -> tuple[int, ...]:
    """The numbers of a release, for comparisons: "2.13.0+cpu" gives (2, 13, 0)."""
    return tuple(int(part) for part in version.partition("+")[0].split("."))


def releases(answer: str) -> list[str]:
    """Releases in what ``pip index versions`` printed, the oldest first; no preliminary ones."""
    found = re.search(r"^Available versions: (.*)$", answer, re.MULTILINE)
    versions = found.group(1).split(", ") if found else []
    kept = [version for version in versions if re.fullmatch(r"[\d.]+(\+\w+)?", version.strip())]
    return sorted((version.strip() for version in kept), key=number)


def offered(package: str) -> list[str]:
    """Releases that pip offers to this Python.

    Raises:
        NoAnswer: says what pip said.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", package]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    found = releases(asked.stdout)
    if asked.returncode or not found:
        lines = asked.stderr.strip().splitlines() or ["it printed no versions"]
        raise NoAnswer(f"pip could not be asked for {package}: {lines[-1]}")
    return found


def newer(tested: Iterable[str], found: Iterable[str]) -> list[str]:
    """Those of ``found`` that are newer than all that were tested; builds of one release once."""
    newest = max(map(number, tested))
    plain = {version.partition("+")[0] for version in found if number(version) > newest}
    return sorted(plain, key=number)


def torch_builds(found: Iterable[str]) -> tuple[list[str], list[str]]:
    """CPU builds of torch, and releases without one, from the oldest tested release on."""
    oldest = min(map(number, TESTED["torch"]))
    found = [version for version in found if number(version) >= oldest]
    builds = [version for version in found if version.endswith("+cpu")]
    have = set(map(number, builds))
    others = {version.partition("+")[0] for version in found if number(version) not in have}
    return builds, sorted(others, key=number)


def transformers_to_test(found: Iterable[str]) -> list[str]:
    """Every tested version, and the newest one."""
    return [*TESTED["transformers"], *newer(TESTED["transformers"], found)[-1:]]


def compare() -> int:
    """One line for each package; the exit status."""
    status = 0
    for package, tested in TESTED.items():
        found = newer(tested, offered(package))
        if found:
            status = 1
            print(f"{package}: newer than the newest tested, {tested[-1]}: {', '.join(found)}")
        else:
            print(f"{package}: the newest release is tested ({tested[-1]})")
    return status


def warn_of_installed() -> None:
    """A line for each installed release that no test has seen so far."""
    for package, tested in TESTED.items():
        version = metadata.version(package)
        if not FACTS["covers"](tested, version):
            print(f"warning: {package} {version} is untested so far; tested: {', '.join(tested)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--installed", action="store_true", help="only warn of what is installed")
    what.add_argument("--transformers", action="store_true", help="print the versions to test")
    what.add_argument("--torch", action="store_true", help="print CPU builds, then other versions")
    args = parser.parse_args()
    try:
        if args.installed:
            warn_of_installed()
        elif args.transformers:
            print(*transformers_to_test(offered("transformers")))
        elif args.torch:
            builds, others = torch_builds(offered("torch"))
            lines = [f"test {version}" for version in builds]
            lines += [f"untested {version} {NO_CPU_BUILD}" for version in others]
            print(*lines, sep="\n")
        else:
            return compare()
    except NoAnswer as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
