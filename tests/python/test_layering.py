"""Who may include or import whom. Each rule has a made-up bad file that it must flag."""

from __future__ import annotations

import ast
import fnmatch
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

TORCH = ("<ATen/*>", "<c10/*>", "<torch/*>")
# Headers of the C++ library have no dot (<vector>); those of C are named one by one.
CPP_LIBRARY = ("<*>", "<stdint.h>", "<string.h>", "<math.h>")
# What kernels show to the layers above: plain structs, the choice of a set, the visibility plan.
DOORS = ("kernels/params.h", "kernels/cpu/isa.h", "kernels/cpu/plan.h")

CUDA_KERNEL = (
    *("kernels/*.h", "kernels/cuda/*.h", "<stdint.h>", "<math.h>"),
    *("<cuda_runtime.h>", "<cuda_runtime_api.h>", "<cuda_fp16.h>", "<cuda_bf16.h>"),
)
# What the headers of operators are made of.
ARGUMENTS = ("ops/api.h", "ops/attention_options.h", "ops/dispatch.h")
OPERATOR = (*TORCH, *CPP_LIBRARY, *ARGUMENTS, "ops/checks.h", "ops/{stem}.h")


@dataclass(frozen=True)
class Rule:
    """Files that match ``files`` may include what matches ``allowed``; ``{stem}`` is their name."""

    files: str
    allowed: tuple[str, ...]


# The first rule that matches a file holds for it. Names are relative to csrc/.
RULES = (
    Rule("kernels/*.h", ("<stdint.h>", "<string.h>", "kernels/*.h")),
    Rule(
        "kernels/cpu/isa.*",
        (
            *("kernels/*.h", "kernels/cpu/*.h", "<stdint.h>", "<math.h>", "<string.h>"),
            *("<stdlib.h>", "<cpuid.h>", "<unistd.h>", "<sys/syscall.h>"),
        ),
    ),
    Rule(
        "kernels/cpu/*",
        (
            *("kernels/*.h", "kernels/cpu/*.h"),
            *("<stdint.h>", "<math.h>", "<string.h>", "<immintrin.h>"),
        ),
    ),
    # Where kernels ask the machine; in tests an emulator answers.
    Rule("kernels/cuda/device.h", (*CUDA_KERNEL, "support/cuda_emulator.h")),
    Rule("kernels/cuda/*", CUDA_KERNEL),
    # Operators on a device that is a template parameter: they know none, and no kernel.
    Rule("ops/any_device/*", (*TORCH, *CPP_LIBRARY, "ops/*.h", "ops/any_device/*.h")),
    Rule(
        "ops/cpu/*",
        (*TORCH, *CPP_LIBRARY, *DOORS, "ops/*.h", "ops/any_device/operators.h", "ops/cpu/*.h"),
    ),
    Rule(
        "ops/cuda/*",
        (
            *(*TORCH, *CPP_LIBRARY, "kernels/params.h", "kernels/cuda/kernels.h"),
            *("<cuda_runtime_api.h>", "ops/*.h", "ops/any_device/operators.h", "ops/cuda/*.h"),
        ),
    ),
    # The list, and what is registered for all that is on it.
    Rule("ops/operators.h", (*TORCH, *CPP_LIBRARY, "ops/*.h")),
    *(
        Rule(f"ops/{name}.cpp", (*TORCH, *CPP_LIBRARY, "ops/operators.h"))
        for name in ("autocast", "autograd", "meta", "no_cuda")
    ),
    # Attention over a cache has the output and the scale of attention.
    Rule("ops/cached_attention.cpp", (*OPERATOR, "ops/masked_attention.h")),
    Rule(
        "ops/params.*",
        (
            *(*OPERATOR, "kernels/params.h", "ops/expand_mask.h", "ops/linear.h"),
            *("ops/masked_attention.h", "ops/masked_softmax.h"),
        ),
    ),
    Rule("ops/cache_memory.cpp", (*OPERATOR, "ops/byte_layout.h")),
    Rule("ops/*", OPERATOR),
    Rule("python/*", ("<pybind11/*>", *CPP_LIBRARY, *DOORS, "build_info.h")),
)

# Files of python/masked_attn that may say torch.ops: the one with the operators, and the loader.
TORCH_OPS = ("functional/_ops.py",)
LOAD_ONLY = "_library.py"
# The program loads models; everything that is built on transformers is an integration.
TRANSFORMERS = ("hf/*", "hf/*/*", "cli/model/loading.py")
# What flash may use of the package besides itself; torch is all that it needs from elsewhere.
FLASH = ("functional", "masks")
# Rooms of cli, and the rooms that each may use besides itself; no command uses another one, except
# that `bench` says which machine it ran on.
CLI_ROOMS = {
    "generate": ("files", "model"),
    "score": ("files", "model"),
    "bench": ("files", "model", "info.machine"),
    "info": ("model",),
    "files": ("model",),
    "model": (),
}

# Rooms of hf, and what each may use of other rooms: a room, a file, or what lies in hf itself.
# The first pattern that matches a file holds for it.
HF_RULES = (
    # Data, and names of the installed transformers.
    Rule("families/requirements", ("families", "call.cache_argument", "versions")),
    Rule("families/*", ("families",)),
    Rule("instance/*", ("instance", "families.family")),
    # Layers by class: they know nothing of forwards, masks and caches.
    Rule("layers/*", ("layers", "instance.forward_slot", "call.visibility")),
    # What stands in for a method of a model that generates, and asks its patch for the levels.
    Rule(
        "caches/generation",
        (
            *("caches.kv_cache", "call.forward", "call.cache_argument", "families"),
            "instance.override",
        ),
    ),
    Rule("caches/*", ("caches.kv_cache", "caches.static", "caches.stand_in", "call.packing")),
    # The choice of one layer: it is handed the plan, and makes none.
    Rule(
        "attention/*",
        (
            *("attention", "caches.kv_cache", "caches.static", "instance.attention_config"),
            *("call.plan", "call.packing", "call.sequences", "call.visibility"),
            *("trace.trace", "versions"),
        ),
    ),
    # The choice of one forward. Only its first file knows of attention, and what ran last.
    Rule(
        "call/forward",
        (
            *("call", "families.family", "instance", "levels", "trace"),
            "attention.planned",
        ),
    ),
    Rule(
        "call/*",
        (
            *("call", "families.family", "instance.neighbours", "levels", "trace.trace"),
            *("caches.kv_cache", "caches.static", "caches.stand_in"),
        ),
    ),
    Rule("trace/report", ("trace", "call.forward", "families", "instance.neighbours")),
    Rule("trace/*", ("trace", "call", "caches.static")),
    Rule("patching", ("*",)),
    Rule("levels", ()),
    Rule("versions", ()),
)
HF_ROOMS = {"attention", "caches", "call", "families", "instance", "layers", "trace"}


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(match_one(name, pattern) for pattern in patterns)


def match_one(name: str, pattern: str) -> bool:
    """Like a shell: ``*`` does not cross ``/``, except in the folders of torch and pybind11."""
    if pattern == "<*>":
        return re.fullmatch(r"<[a-z_0-9]+>", name) is not None
    deep = pattern.startswith("<") and "/" in pattern
    same_depth = name.count("/") == pattern.count("/")
    return fnmatch.fnmatchcase(name, pattern) and (deep or same_depth)


def included(csrc: Path, file: Path) -> Iterator[str]:
    """Yield each include: ``<name>`` as it stands, quoted ones as a path relative to csrc."""
    folder = file.parent.relative_to(csrc).as_posix()
    for mark, name in INCLUDE.findall(file.read_text()):
        beside = posixpath.normpath(posixpath.join(folder, name))
        if mark == "<":
            yield f"<{name}>"
        elif name.startswith("../") or (csrc / beside).exists():
            yield beside
        else:
            yield name


def include_problems(csrc: Path) -> list[str]:
    """Return one line for each include that no rule allows, and for each file without a rule."""
    problems = []
    for file in sorted(csrc.rglob("*.*")):
        if file.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
            continue
        name = file.relative_to(csrc).as_posix()
        rule = next((rule for rule in RULES if matches(name, (rule.files,))), None)
        if rule is None:
            problems.append(f"{name}: no rule for this folder")
            continue
        allowed = tuple(pattern.format(stem=file.stem) for pattern in rule.allowed)
        problems += [
            f"{name} includes {header}"
            for header in included(csrc, file)
            if not matches(header, allowed)
        ]
        if re.search(r"#\s*pragma\s+omp", file.read_text()):
            problems.append(f"{name} uses OpenMP")
    return problems


def imported(tree: ast.AST) -> set[str]:
    """Return every module that is imported, anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module or ""}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def import_problems(package: Path) -> list[str]:
    """Return one line for each use of torch.ops or transformers outside its files."""
    problems = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        tree = ast.parse(file.read_text())
        modules = imported(tree)
        attributes = [
            ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
        ]
        uses = attributes.count("torch.ops") + ("torch.ops" in modules)
        uses -= attributes.count("torch.ops.aten")  # torch's own
        if name == LOAD_ONLY:
            uses -= attributes.count("torch.ops.load_library")
        if uses and name not in TORCH_OPS:
            problems.append(f"{name} says torch.ops")
        if any(module.split(".")[0] == "transformers" for module in modules) and not matches(
            name, TRANSFORMERS
        ):
            problems.append(f"{name} imports transformers")
    return problems


def room_problems(cli: Path) -> list[str]:
    """Return one line for each use of a room that a room of cli may not use."""
    problems = []
    for room, allowed in CLI_ROOMS.items():
        for file in sorted((cli / room).rglob("*.py")):
            for module in sorted(imported(ast.parse(file.read_text()))):
                name = module.removeprefix("masked_attn.cli.")
                if name == module or name.split(".")[0] not in CLI_ROOMS:
                    continue
                if not f"{name}.".startswith(tuple(f"{each}." for each in (room, *allowed))):
                    problems.append(f"{room}/{file.name} uses {name}")
    return problems


def flash_problems(flash: Path) -> list[str]:
    """Return one line for each use of the rest of the package that flash may not make."""
    problems = []
    for file in sorted(flash.rglob("*.py")):
        used = {
            name.removeprefix("masked_attn.")
            for name in imported(ast.parse(file.read_text()))
            if name.startswith("masked_attn")
        }
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                used |= {node.module} if node.module else {alias.name for alias in node.names}
        problems += [
            f"{file.name} uses {name}"
            for name in sorted(used)
            if name.split(".")[0] not in (*FLASH, "flash")
        ]
    return problems


def imports_in_hf(hf: Path, file: Path, *, late: bool = True) -> Iterator[str]:
    """Yield each import of a file of hf by another one, as ``call.plan``; ``..tested`` is not one.

    A name that is imported from a room is a file of it, if there is one of that name. With
    ``late=False`` imports inside of functions do not count.
    """
    here = file.relative_to(hf).with_suffix("").parts
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree) if late else tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("masked_attn.hf."):
                    yield alias.name.removeprefix("masked_attn.hf.")
        if not isinstance(node, ast.ImportFrom):
            continue
        named = tuple((node.module or "").split(".")) if node.module else ()
        if node.level > len(here) or (node.level == 0 and named[:2] != ("masked_attn", "hf")):
            continue
        base = (*here[: len(here) - node.level], *named) if node.level else named[2:]
        for alias in node.names:
            deeper = hf.joinpath(*base, f"{alias.name}.py").exists() or len(base) == 0
            yield ".".join((*base, alias.name) if deeper else base)


def files_of_hf(hf: Path) -> dict[str, Path]:
    """Each file but ``__init__.py``, by its path without the ending."""
    files = (file for file in sorted(hf.rglob("*.py")) if file.name != "__init__.py")
    return {file.relative_to(hf).with_suffix("").as_posix(): file for file in files}


def hf_problems(hf: Path) -> list[str]:
    """Return one line for each import between files of hf that no rule allows."""
    problems = []
    for name, file in files_of_hf(hf).items():
        rule = next((rule for rule in HF_RULES if match_one(name, rule.files)), None)
        if rule is None:
            problems.append(f"{name}: no rule for this file")
            continue
        for used in imports_in_hf(hf, file):
            fits = (f"{used}.".startswith(f"{allowed}.") for allowed in rule.allowed)
            if rule.allowed != ("*",) and not any(fits):
                problems.append(f"{name} uses {used}")
    return problems


def cycles_in_hf(hf: Path) -> list[str]:
    """Return the files of which none can be imported before the others of them, or that use such.

    Imports inside of functions may go back.
    """
    files = {name.replace("/", "."): file for name, file in files_of_hf(hf).items()}
    waiting = {
        name: set(imports_in_hf(hf, file, late=False)) & files.keys()
        for name, file in files.items()
    }
    while ready := {name for name, uses in waiting.items() if uses.isdisjoint(waiting)}:
        waiting = {name: uses for name, uses in waiting.items() if name not in ready}
    return sorted(waiting)


def test_sources_include_only_what_their_layer_may() -> None:
    assert list((ROOT / "csrc").rglob("*.cpp")), "there are sources to look at"
    assert include_problems(ROOT / "csrc") == []


def test_modules_import_only_what_their_layer_may() -> None:
    assert import_problems(ROOT / "python" / "masked_attn") == []


def test_rooms_of_the_program_use_only_what_they_may() -> None:
    cli = ROOT / "python" / "masked_attn" / "cli"
    rooms = {folder.name for folder in cli.iterdir() if (folder / "__init__.py").exists()}
    assert rooms == set(CLI_ROOMS)
    assert room_problems(cli) == []


def test_flash_uses_only_what_it_may() -> None:
    flash = ROOT / "python" / "masked_attn" / "flash"
    assert list(flash.glob("*.py")), "there are sources to look at"
    assert flash_problems(flash) == []


def test_rooms_of_hf_use_only_what_they_may() -> None:
    hf = ROOT / "python" / "masked_attn" / "hf"
    assert {folder.name for folder in hf.iterdir() if (folder / "__init__.py").exists()} == HF_ROOMS
    assert hf_problems(hf) == []


def test_no_file_of_hf_imports_itself_by_way_of_others() -> None:
    assert cycles_in_hf(ROOT / "python" / "masked_attn" / "hf") == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("families/decoder.py", "from ..call.plan import Plan"),
        ("families/family.py", "from ..versions import changed"),
        ("instance/override.py", "from ..call.forward import patch_of"),
        ("instance/neighbours.py", "from ..families.registry import FAMILIES"),
        ("layers/linear.py", "from ..call.plan import Plan"),
        ("layers/mlp.py", "from ..caches.kv_cache import KVCache"),
        ("layers/mlp.py", "def f():\n    from masked_attn.hf.trace import report"),
        ("caches/kv_cache.py", "from ..call.plan import Plan"),
        ("caches/static.py", "from ..attention.paths import attend"),
        ("caches/stand_in.py", "import masked_attn.hf.call.plan"),
        ("attention/planned.py", "from ..patching import patch"),
        ("attention/planned.py", "from ..call.plan_of_another import make"),
        ("attention/planned.py", "from ..call.forward import patch_of"),
        ("attention/interface.py", "from ..caches.stand_in import StandInCache"),
        ("attention/stock.py", "from ..families.gpt2 import GPT2"),
        ("call/plan.py", "from ..attention.planned import attend_as_planned"),
        ("call/running.py", "from ..layers.linear import FastForward"),
        ("call/forward.py", "from ..patching import patch"),
        ("call/forward.py", "from .. import patching"),
        ("trace/trace.py", "from ..attention import planned"),
        ("levels.py", "from .families.family import ModelFamily"),
        ("elsewhere/file.py", "import torch"),
    ],
)
def test_a_file_of_hf_that_uses_another_is_flagged(tmp_path: Path, name: str, line: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(line)
    assert len(hf_problems(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("patching.py", "from .call.forward import patch_of"),
        ("versions.py", "from ..tested import TRANSFORMERS"),
        ("layers/mlp.py", "from ...functional import linear\nfrom .linear import takes"),
        ("call/plan.py", "from ..caches.static import is_static"),
        ("attention/interface.py", "from ..call.plan import Plan"),
    ],
)
def test_a_file_of_hf_that_uses_what_it_may_passes(tmp_path: Path, name: str, line: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(line)
    assert hf_problems(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "flagged"),
    [
        ("from ..hf import patch", True),
        ("from .. import hf", True),
        ("def f():\n    from ..kv_cache import RowBuffer", True),
        ("import masked_attn.hf.call.plan", True),
        ("from masked_attn import KVCache", True),
        ("from ..functional import masked_attention", False),
        ("from .. import masks", False),
        ("from .dense import flash_attn_func\nimport torch", False),
    ],
)
def test_a_file_of_flash_that_uses_another_is_flagged(
    tmp_path: Path, line: str, flagged: bool
) -> None:
    (tmp_path / "file.py").write_text(line)
    assert bool(flash_problems(tmp_path)) == flagged


def test_a_circle_of_imports_is_flagged(tmp_path: Path) -> None:
    for name, line in (
        ("call/plan.py", "from .forward import patch_of"),
        ("call/forward.py", "from ..trace import report"),
        ("trace/report.py", "from ..call.plan import Plan"),
        ("trace/trace.py", "def f():\n    from .trace import TRACE"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(line)
    assert cycles_in_hf(tmp_path) == ["call.forward", "call.plan", "trace.report"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("score/command.py", "from masked_attn.cli.generate.prompts import encode"),
        ("bench/command.py", "from masked_attn.cli.info import self_check"),
        ("model/loading.py", "import masked_attn.cli.files.records"),
        ("files/run.py", "def f():\n    from masked_attn.cli import bench"),
    ],
)
def test_a_room_that_uses_another_is_flagged(tmp_path: Path, name: str, line: str) -> None:
    file = tmp_path / name
    file.parent.mkdir()
    file.write_text(line)
    assert room_problems(tmp_path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("kernels/mask.h", "#include <vector>"),
        ("kernels/mask.h", "#include <torch/library.h>"),
        ("kernels/mask.h", '#include "cpu/vec.h"'),
        ("kernels/cpu/attention.cpp", "#include <algorithm>"),
        ("kernels/cpu/attention.cpp", "#include <stdlib.h>"),
        ("kernels/cpu/attention.cpp", "#include <ATen/ATen.h>"),
        ("kernels/cpu/attention.cpp", '#include "../../ops/checks.h"'),
        ("kernels/cpu/attention.cpp", "#pragma omp parallel"),
        ("kernels/cpu/isa.cpp", "#include <string>"),
        ("kernels/cpu/isa.cpp", "#include <immintrin.h>"),
        ("kernels/cuda/attention.cu", "#include <c10/cuda/CUDAStream.h>"),
        ("kernels/cuda/attention.cu", '#include "kernels/cpu/vec.h"'),
        ("kernels/cuda/attention.cu", '#include "support/cuda_emulator.h"'),
        ("kernels/cuda/device.h", '#include "support/fiber.h"'),
        ("ops/masked_attention.cpp", '#include "kernels/params.h"'),
        ("ops/masked_attention.cpp", '#include "ops/expand_mask.h"'),
        ("ops/masked_attention.cpp", '#include "ops/cpu/workspace.h"'),
        ("ops/any_device/linear.h", '#include "ops/cpu/device.h"'),
        ("ops/any_device/linear.h", '#include "kernels/params.h"'),
        ("ops/cpu/device.cpp", '#include "kernels/cpu/vec.h"'),
        ("ops/cpu/device.cpp", '#include "../cuda/device.h"'),
        ("ops/cuda/device.cpp", '#include "kernels/cpu/isa.h"'),
        ("ops/cpu/device.cpp", "#include <cuda_runtime.h>"),
        ("ops/autograd.cpp", '#include "kernels/params.h"'),
        ("ops/autograd.cpp", '#include "ops/cpu/device.h"'),
        ("ops/operators.h", '#include "ops/cpu/device.h"'),
        ("ops/autocast.cpp", '#include "kernels/params.h"'),
        ("python/module.cpp", "#include <torch/extension.h>"),
        ("python/module.cpp", '#include "ops/checks.h"'),
        ("python/module.cpp", '#include "kernels/cpu/vec.h"'),
        ("elsewhere/file.cpp", "#include <vector>"),
    ],
)
def test_a_bad_include_is_flagged(tmp_path: Path, name: str, line: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(f"{line}\n")
    assert len(include_problems(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("kernels/mask.h", '#include "params.h"'),
        ("kernels/cpu/attention.cpp", '#include "../mask.h"'),
        ("kernels/cpu/isa.cpp", "#include <stdlib.h>"),
        ("kernels/cuda/attention.cu", "#include <cuda_fp16.h>"),
        ("kernels/cuda/device.h", '#include "support/cuda_emulator.h"'),
        ("ops/masked_attention.cpp", '#include "ops/masked_attention.h"'),
        ("ops/any_device/masked_attention.h", '#include "../masked_attention.h"'),
        ("ops/cpu/device.cpp", '#include "../any_device/operators.h"'),
        ("ops/autograd.cpp", "#include <torch/csrc/autograd/function.h>"),
        ("python/module.cpp", "#include <pybind11/pybind11.h>"),
    ],
)
def test_a_good_include_passes(tmp_path: Path, name: str, line: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    (file.parent / "params.h").touch()
    file.write_text(f"{line}\n")
    problems = [problem for problem in include_problems(tmp_path) if problem.startswith(name)]
    assert problems == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("masks.py", "import torch\ntorch.ops.masked_attn.expand_mask"),
        ("masks.py", "from torch import ops"),
        ("masks.py", "import torch\ntorch.ops.aten\ntorch.ops.masked_attn.expand_mask"),
        ("functional/expand_mask.py", "import torch\ntorch.ops.masked_attn"),
        ("_library.py", "import torch\ntorch.ops.masked_attn.expand_mask"),
        ("kv_cache.py", "import transformers"),
        ("kv_cache.py", "def f():\n    from transformers.cache_utils import Cache"),
        ("cli/generate/command.py", "import importlib\nimportlib.import_module('transformers')"),
    ],
)
def test_a_bad_import_is_flagged(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert len(import_problems(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("functional/_ops.py", "import torch\ntorch.ops.masked_attn"),
        ("_library.py", "import torch\ntorch.ops.load_library('x')"),
        ("hf/attention/planned.py", "import transformers"),
        ("masks.py", "import torch\naten = torch.ops.aten"),
    ],
)
def test_a_good_import_passes(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert import_problems(tmp_path) == []
