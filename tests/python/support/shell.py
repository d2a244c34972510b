"""Command lines of the documents: what each names must exist, and what it asks must be understood.

Nothing is run here but ``python -m masked_attn``, by the function that the caller hands over.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.documents import ROOT

Run = Callable[[list[str]], None]

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*")
PYTHON = re.compile(r"(\S*/)?python(3(\.\d+)?)?")
PIP_OPTIONS = {"--no-build-isolation", "--force-reinstall", "--no-deps", "--upgrade", "-e"}
PROJECT = re.compile(r"(\.|masked_attn)(?:\[([\w,]+)\])?")


def commands_in(text: str) -> list[list[str]]:
    """The commands of a block, as words; comments are left out, ``&&`` joins two commands."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                commands.append(words)
                words = []
    return commands


def check_all(text: str, run: Run) -> None:
    """``check`` for each command of a block."""
    for words in commands_in(text):
        check(words, run)


def check(words: list[str], run: Run) -> None:
    """Fail where a command could not do what the document says.

    Args:
        words: the command, variables in front of it included.
        run: runs the arguments of ``python -m masked_attn``.
    """
    while ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    program, arguments = words[0], words[1:]
    if PYTHON.fullmatch(program):
        _check_python(arguments, run)
    elif program == "masked-attn":
        run(arguments)
    elif program == "pip":
        _check_pip(arguments)
    elif program == "make":
        _check_make(arguments)
    elif program in ("cmake", "ctest"):
        _check_cmake(arguments)
    elif program == "perf" and arguments[0] == "record":
        check(arguments[1:], run)
    elif program.startswith("build/"):
        _check_built(program, arguments)
    else:
        pytest.fail(f"{shlex.join(words)}: nothing here knows how to check {program}")


def targets_of_make() -> set[str]:
    """The names that ``make`` can be given."""
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _check_make(arguments: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    for argument in arguments:
        if ASSIGNMENT.fullmatch(argument):
            name = argument.partition("=")[0]
            assert re.search(rf"^{name} \?=", text, re.MULTILINE), f"the Makefile has no {name}"
        else:
            assert argument in targets_of_make(), f"the Makefile has no target {argument}"


def _check_python(arguments: list[str], run: Run) -> None:
    if arguments[:2] == ["-m", "masked_attn"]:
        run(arguments[2:])
    elif arguments[:2] == ["-m", "pytest"]:
        paths = [word.partition("::")[0] for word in arguments[2:] if word.startswith("tests/")]
        assert paths, "pytest of no file"
        for path in paths:
            assert (ROOT / path).exists(), f"there is no {path}"
    elif arguments[:2] == ["-m", "pip"]:
        _check_pip(arguments[2:])
    elif arguments[0] == "-m":
        _check_script(arguments[1].replace(".", "/") + ".py", arguments[2:])
    else:
        _check_script(arguments[0], arguments[1:])


def _check_script(script: str, arguments: list[str]) -> None:
    """Its options are texts in its source, or in what the scripts of its folder share."""
    path = ROOT / script
    assert path.is_file(), f"there is no {script}"
    sources = [path, *(path.parent / "common").glob("*.py")]
    _check_options(arguments, sources)


def _check_built(program: str, arguments: list[str]) -> None:
    name = Path(program).name
    files = [ROOT / "CMakeLists.txt", *(ROOT / "tests" / "cpp").rglob("CMakeLists.txt")]
    assert any(name in path.read_text() for path in files), f"CMake builds no {name}"
    if not name.startswith("test_"):  # those have the options of Catch2
        _check_options(arguments, list(ROOT.glob(f"benchmarks/**/{name}.cpp")))


def _check_options(arguments: list[str], sources: list[Path]) -> None:
    text = "".join(path.read_text() for path in sources)
    for option in (word for word in arguments if word.startswith("--")):
        assert option in text, f"{option} is not in {', '.join(path.name for path in sources)}"


def _check_cmake(arguments: list[str]) -> None:
    files = [ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")]
    text = "".join(path.read_text() for path in files)
    for argument in arguments:
        option = re.match(r"-D(MASKED_ATTN_\w+)=", argument)
        assert option is None or option[1] in text, f"CMake knows no {argument}"
        assert option or not argument.startswith("-DMASKED"), argument


def _check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install", arguments
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    listed = [*project["build-system"]["requires"], *project["project"].get("dependencies", [])]
    listed += [each for group in extras.values() for each in group]
    tools = (ROOT / "tools" / "requirements-dev.txt").read_text().splitlines()
    listed += [line for line in tools if not line.startswith("#")]
    known = [Requirement("torch"), *map(Requirement, listed)]  # torch: of the wheel alone
    for word in arguments[1:]:
        if word.startswith("-"):
            assert word in PIP_OPTIONS, f"unknown option {word} of pip"
        elif of_project := PROJECT.fullmatch(word):
            asked = set((of_project[2] or "").split(",")) - {""}
            assert asked <= set(extras), f"pyproject.toml has no extra {asked - set(extras)}"
        else:
            _check_requirement(Requirement(word), known)


def _check_requirement(asked: Requirement, known: list[Requirement]) -> None:
    """A name that the project knows, and versions that it would take."""
    ours = [each.specifier for each in known if each.name == asked.name]
    assert ours, f"nothing in the project needs {asked.name}"
    for each in asked.specifier:
        version = each.version.removesuffix(".*")
        agrees = any(
            specifier.contains(version) if each.operator == "==" else str(each) in str(specifier)
            for specifier in ours
        )
        assert agrees, f"{asked}: the project says {', '.join(map(str, ours))}"
