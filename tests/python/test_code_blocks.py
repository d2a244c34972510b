"""Every fenced block of every Markdown file: run, or checked as far as it can be without a network.

The language says how, and each block must have one. ``python`` is run, the blocks of a document one
after another in one namespace. ``sh`` is checked line by line, and ``python -m masked_attn`` in it
is run. ``cpp`` is built as the ``cmake`` block beside it says, and run. ``text`` is a drawing, or
what something prints.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from support.documents import ROOT, Block, all_blocks, blocks_in
from support.shell import check_all, targets_of_make
from support.small_models import DEMO_MODEL, folder_of

import masked_attn
from masked_attn import _library

BLOCKS = all_blocks()
LANGUAGES = ("python", "sh", "json", "cpp", "cmake", "text")
# Nothing looks at these. Another one needs its place here, so that none is left out by accident.
LEFT_OUT = {
    "csrc/README.md": 1,
    "docs/adding_a_model.md": 5,  # looked for in the sources, below
    "docs/cpu_kernels.md": 5,
    "docs/models.md": 1,
    "docs/numerics.md": 1,
    "docs/operators.md": 1,
}

# The one change: there is no network here, so a name on the hub becomes a folder.
ON_THE_HUB = re.compile(r'(?m)^(name|llama|bert) = "[^"]+"')

# Makes a run small: the last of two equal options counts.
SMALL = {
    "bench": shlex.split("--size demo --lengths 3,5 --new-tokens 2 --repeats 1 --no-memory"),
    "generate": shlex.split("--max-new-tokens 5 --repeats 1"),
}
INPUTS = {
    "prompts.jsonl": '{"id": 7, "prompt": "My dog is"}\n{"id": 8, "prompt": "The sun"}\n',
    "texts.jsonl": '{"prompt": "My dog is waiting."}\n',
    "prompts.txt": "My dog is\nThe sun\n",
    "texts.txt": "My dog is waiting.\nThe sun\n",
}


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def documents_with(language: str) -> list[str]:
    return sorted({block.document for block in of(language)})


def place(block: Block) -> str:
    return block.place


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the paths of the sources are right."""
    for name in ("benchmarks", "examples", "python", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) > 20
    unknown = [
        f"{block.place} {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES
    ]
    assert not unknown, f"fences that name none of {LANGUAGES}: {unknown}"


def test_what_is_left_out_is_left_out_on_purpose() -> None:
    assert Counter(block.document for block in of("text")) == LEFT_OUT


def test_the_rows_of_a_new_family_stand_in_the_sources() -> None:
    """Each ``text`` of the page is a line of the file that was named last above it."""
    page = ROOT / "docs" / "adding_a_model.md"
    lines = page.read_text().splitlines()
    for block in (each for each in of("text") if each.document == "docs/adding_a_model.md"):
        above = "\n".join(lines[: block.line])
        (*_, name) = re.findall(r"`((?:python|tests)/[\w/]+\.py)`", above)
        found = [line.strip() for line in (ROOT / name).read_text().splitlines()]
        assert block.text.strip() in found, f"{block.place}: not in {name}"


# --- python ------------------------------------------------------------------------------------


def given_in_models() -> dict[str, Any]:
    """The names that the pages about models speak of without making them."""
    from transformers import AutoTokenizer, GPT2LMHeadModel, StaticCache

    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL)
    batch = tokenizer(["My dog is", "The"], padding=True, return_tensors="pt")
    prompt_mask = batch["attention_mask"]
    return {
        "torch": torch,
        "StaticCache": StaticCache,
        "name": DEMO_MODEL,
        "model": GPT2LMHeadModel.from_pretrained(DEMO_MODEL),
        "batch": batch,
        "capacity": 8,
        "prompt": batch["input_ids"],
        "prompt_mask": prompt_mask,
        "prompt_positions": masked_attn.masks.positions_from_mask(prompt_mask),
        "token": torch.tensor([[5], [6]]),
        "position": prompt_mask.sum(1, keepdim=True),
        "graph": GraphOnTheCpu(),
    }


class GraphOnTheCpu:
    """Stands for a CUDA graph where there is no GPU: the step runs, and nothing is replayed."""

    def replay(self) -> None: ...


GIVEN = dict.fromkeys(("docs/models.md", "docs/attention_interface.md"), given_in_models)


@pytest.mark.parametrize("document", documents_with("python"))
def test_python(document: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block for block in of("python") if block.document == document]
    if any("transformers" in block.text for block in blocks):
        pytest.importorskip("transformers")
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    run_python(blocks, GIVEN.get(document, dict)(), workplace)


def run_python(blocks: list[Block], names: dict[str, Any], folder: Path) -> None:
    def local(match: re.Match[str]) -> str:
        return f"{match[1]} = {folder_of(match[1], folder)!r}"

    for block in blocks:
        if "sentence_transformers" in block.text and not find_spec("sentence_transformers"):
            compile(block.text, block.place, "exec")  # the one part that only some machines can run
            continue
        source = ON_THE_HUB.sub(local, block.text)
        lines_above = "\n" * block.line  # so that a traceback names the line of the document
        with torch.no_grad():
            exec(compile(lines_above + source, str(ROOT / block.document), "exec"), names)


def test_each_model_of_the_readme_is_replaced_once() -> None:
    found = [match[1] for block in of("python") for match in ON_THE_HUB.finditer(block.text)]
    assert sorted(found) == ["bert", "llama", "name"]


# --- sh ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("sh"), ids=place)
def test_sh(block: Block, workplace: Path) -> None:
    for name, text in INPUTS.items():
        (workplace / name).write_text(text)
    check_all(block.text, run_masked_attn)


def run_masked_attn(arguments: list[str]) -> None:
    """In this process: a new one spends most of its time on importing torch."""
    pytest.importorskip("transformers")
    from masked_attn.cli import main

    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    arguments = [*arguments, *SMALL.get(arguments[0], [])]
    assert main(arguments) == 0, shlex.join(arguments)


MAKE_IN_TEXT = re.compile(r"`make ((?:[\w=.]+ )*[a-z][\w-]*)`")


def test_targets_in_the_text_exist() -> None:
    for path in {block.document for block in BLOCKS}:
        for words in MAKE_IN_TEXT.findall((ROOT / path).read_text()):
            assert words.split()[-1] in targets_of_make(), f"{path}: make {words}"


def test_contributors_are_told_of_every_target() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    missing = {name for name in targets_of_make() if not re.search(rf"[`\n ]{name}[` \n]", text)}
    assert missing <= {"help"}
    (table,) = re.findall(r"(?m)^\| `make` .*\n\|[-|]+\n((?:\|.*\n)+)", text)
    told = {name for row in table.splitlines() for name in re.findall("`(.*?)`", row.split("|")[1])}
    assert len(told) > 5
    assert told <= targets_of_make()


# --- json --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("json"), ids=place)
def test_json(block: Block) -> None:
    for line in block.text.splitlines():
        assert isinstance(json.loads(line), dict)


# --- C++ ---------------------------------------------------------------------------------------

PROJECT = """\
cmake_minimum_required(VERSION 3.22)
project(program LANGUAGES CXX)
{block}"""
needs_a_compiler = pytest.mark.skipif(
    not all(map(shutil.which, ("cmake", "ninja", "c++"))),
    reason="cmake, ninja or a compiler is not on PATH",
)


def run(*command: object, cwd: Path) -> str:
    words = [str(part) for part in command]
    result = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def commands_of(folder: Path, target: str) -> list[str]:
    """What compiles and links ``target`` alone: the libraries below it are there."""
    steps = run("ninja", "-t", "commands", target, cwd=folder).splitlines()
    return [step for step in steps if f"CMakeFiles/{target}.dir/" in step]


@needs_a_compiler
@pytest.mark.parametrize("document", documents_with("cmake"))
def test_cpp(document: str, tmp_path: Path) -> None:
    (project,) = (block for block in of("cmake") if block.document == document)
    (program,) = (block for block in of("cpp") if block.document == document)
    (tmp_path / "masked_attn").symlink_to(ROOT)
    (tmp_path / "program.cpp").write_text(program.text)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(block=project.text))
    build = tmp_path / "build"
    run(
        *("cmake", "-S", tmp_path, "-B", build, "-G", "Ninja"),
        *("-DMASKED_ATTN_BUILD_PYTHON=OFF", f"-DPython3_EXECUTABLE={sys.executable}"),
        cwd=tmp_path,
    )
    for library in _library.library_path().parent.glob("lib*.so"):
        shutil.copy(library, build / "masked_attn" / library.name)
    steps = commands_of(build, "program")
    assert len(steps) == 2, steps  # one to compile, one to link
    for step in steps:
        run("sh", "-c", step, cwd=build)
    assert run(build / "program", cwd=tmp_path) == "[2, 4, 6, 16]\n"


def test_every_program_has_its_project() -> None:
    assert documents_with("cpp") == documents_with("cmake") != []


# --- the tests of these tests ------------------------------------------------------------------


def test_blocks_are_found_indented_with_tildes_and_without_a_language() -> None:
    text = "a\n```sh\nmake demo\n```\n- b\n\n  ~~~text\n  ```\n    c\n  ~~~\n```\n```\n"
    assert blocks_in(text, "d.md") == [
        Block("d.md", 2, "sh", "make demo\n"),
        Block("d.md", 7, "text", "```\n  c\n"),
        Block("d.md", 11, "", ""),
    ]
    with pytest.raises(AssertionError, match="d.md:1: this fence is never closed"):
        blocks_in("```sh\nmake\n", "d.md")


def test_a_wrong_block_is_found_with_its_line() -> None:
    blocks = [
        Block("d.md", 1, "python", "x = 1\n"),
        Block("d.md", 5, "python", "\nassert x == 2\n"),
    ]
    with pytest.raises(AssertionError) as caught:
        run_python(blocks, {}, Path())
    assert caught.traceback[-1].lineno + 1 == 7


@pytest.mark.parametrize(
    "line",
    [
        "make no-such-target",
        "make NO_SUCH=1 demo",
        "pip install no-such-package",
        "pip install .[no_such_extra]",
        "pip install transformers==5.3.0",
        "pip install --no-such-option .",
        "python no_such_script.py",
        "python benchmarks/linear.py --no-such-option",
        "python -m pytest tests/no_such_folder",
        "cmake -S . -B build -DMASKED_ATTN_NO_SUCH=ON",
        "build/no_such_program",
        "no-such-program",
        "python -m masked_attn info --no-such-option",
        "cat prompts.txt | python -m masked_attn info",
    ],
)
def test_a_wrong_line_is_found(line: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_all(line, run_masked_attn)
