"""What we lean on in torch that is not promised to us. Not our code: the interface itself."""

from __future__ import annotations

import ast
import ctypes
import re
import threading
from pathlib import Path

import pytest
import torch
from support.private_interfaces import ROOT, guard, lines_of_the_page
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as modules

TORCH = Path(torch.__file__).parent
INCLUDE = TORCH / "include"
HERE = Path(__file__).parent
FILES = (Path(__file__), *sorted((HERE / "hf").glob("test_private_interfaces*.py")))
OUR_INCLUDE = re.compile(r"#include <((?:ATen|c10|torch)/[^>]+)>")


def guards_in(file: Path) -> set[str]:
    functions = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)]
    return {f.name for f in functions if "guard" in map(ast.unparse, f.decorator_list)}


def test_each_line_of_the_page_has_a_guard_and_each_guard_a_line():
    guards = set.union(*map(guards_in, FILES))
    assert len(guards) > 20
    assert set(lines_of_the_page()) == guards


def test_files_that_the_page_names_exist():
    """And name the interface: a line of code that went must take its line of the page along."""
    for line in lines_of_the_page().values():
        files = re.findall(r"`([^`]+)`", line["used in"])
        assert files
        texts = [text for name in files for text in texts_of(name)]
        words = set(re.findall(r"`([A-Za-z_0-9./]+)`", line["interface"]))
        assert words, line["interface"]
        for word in words:
            assert any(word.split(".")[-1] in text for text in texts), (word, files)


def texts_of(name: str) -> list[str]:
    found = [
        path for folder in ("python/masked_attn", ".") for path in ROOT.glob(f"{folder}/{name}")
    ]
    assert found, name
    files = [f for path in found for f in ([path] if path.is_file() else path.rglob("*.*"))]
    return [f.read_text() for f in files if f.suffix in {".py", ".cpp", ".h", ".cmake", ".cu"}]


@guard
def test_torch_parallel_for():
    function = ctypes.CDLL(str(TORCH / "lib" / "libtorch_cpu.so")).torch_parallel_for
    work_type = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    function.argtypes = [*[ctypes.c_int64] * 3, work_type, ctypes.c_void_p]
    function.restype = ctypes.c_int32
    parts, contexts, threads = [], set(), set()

    def work(begin, end, context):
        parts.extend(range(begin, end))
        contexts.add(context)
        threads.add(threading.get_native_id())

    torch.set_num_threads(2)
    assert function(3, 7, 1, work_type(work), 12) == 0
    assert sorted(parts) == [3, 4, 5, 6]
    assert contexts == {12}
    assert len(threads) == 2, "all indices ran on one thread"


@guard
def test_headers_of_torch():
    files = [f for f in (ROOT / "csrc").rglob("*.*") if f.suffix in {".h", ".cpp"}]
    headers = {name for f in files for name in OUR_INCLUDE.findall(f.read_text())}
    assert len(headers) > 8
    assert [name for name in sorted(headers) if not (INCLUDE / name).exists()] == []
    assert (INCLUDE / "pybind11" / "pybind11.h").exists()
    words = {
        "ATen/Dispatch_v2.h": ["AT_DISPATCH_V2", "AT_WRAP"],
        "ATen/Parallel.h": ["get_num_threads", "in_parallel_region"],
        "ATen/autocast_mode.h": ["cached_cast", "get_autocast_dtype"],
        "c10/core/CPUAllocator.h": ["GetCPUAllocator"],
        "torch/csrc/autograd/variable.h": ["bump_version"],
    }
    for name, expected in words.items():
        text = (INCLUDE / name).read_text()
        assert [word for word in expected if word not in text] == [], name


@guard
def test_libraries_of_torch():
    for name in ("torch", "torch_cpu", "c10"):
        assert (TORCH / "lib" / f"lib{name}.so").exists(), name
    assert torch._C._GLIBCXX_USE_CXX11_ABI in (True, False)


@guard
def test_load_library_takes_a_path_twice():
    path = TORCH / "lib" / "libc10.so"
    for _ in range(2):
        torch.ops.load_library(path)


@guard
def test_forward_of_an_instance_comes_first():
    module = nn.Identity()
    module.__dict__["forward"] = lambda x: x + 1
    assert module(torch.tensor(1)) == 2
    del module.__dict__["forward"]
    assert module(torch.tensor(1)) == 1


@guard
@pytest.mark.parametrize("with_kwargs", [False, True])
def test_where_hooks_are_kept(with_kwargs):
    module = nn.Identity()
    assert not module._forward_hooks and not module._forward_pre_hooks
    pre = module.register_forward_pre_hook(lambda *_: None, with_kwargs=with_kwargs)
    after = module.register_forward_hook(lambda *_: None, with_kwargs=with_kwargs)
    assert pre.id in module._forward_pre_hooks
    assert after.id in module._forward_hooks
    assert (pre.id in module._forward_pre_hooks_with_kwargs) == with_kwargs
    assert (after.id in module._forward_hooks_with_kwargs) == with_kwargs
    pre.remove()
    after.remove()
    assert not module._forward_pre_hooks
    assert not module._forward_pre_hooks_with_kwargs
    assert not module._forward_hooks_with_kwargs
    assert module.register_full_backward_pre_hook(print).id in module._backward_pre_hooks
    assert module.register_full_backward_hook(print).id in module._backward_hooks


@guard
def test_is_compiling_is_known_while_tracing():
    seen = []

    def work(x):
        seen.append(torch.compiler.is_compiling())
        return x + 1

    torch._dynamo.reset()
    torch.compile(work, backend="eager")(torch.ones(1))
    assert seen[0] is True
    assert not torch.compiler.is_compiling()


@guard
def test_a_tensor_can_be_made_when_it_is_read():
    seen = []

    class Late(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            seen.append(func)
            made = [torch.arange(6).view(2, 3) if type(arg) is cls else arg for arg in args]
            return func(*made, **(kwargs or {}))

    late = torch.Tensor._make_wrapper_subclass(Late, (2, 3), dtype=torch.int64)
    assert late.shape == (2, 3) and late.ndim == 2 and late.numel() == 6 and not seen
    assert (late + 1).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert late[1].sum() == 12 and late[:, :, None].shape == (2, 3, 1)
    assert torch.ops.aten.add.Tensor in seen


@guard
def test_is_tracing_is_known_while_tracing():
    seen = []

    def work(x):
        seen.append(torch.jit.is_tracing())
        return x + 1

    torch.jit.trace(work, torch.ones(1), check_trace=False)
    assert seen == [True]
    assert not torch.jit.is_tracing()


@guard
def test_global_hooks_are_counted():
    registers = (
        modules.register_module_forward_pre_hook,
        modules.register_module_forward_hook,
        modules.register_module_full_backward_hook,
    )
    assert not modules._has_any_global_hook()
    for register in registers:
        handle = register(lambda *_: None)
        assert modules._has_any_global_hook()
        handle.remove()
    assert not modules._has_any_global_hook()


@guard
def test_level_of_forward_mode():
    assert forward_ad._current_level < 0
    with forward_ad.dual_level():
        assert forward_ad._current_level == 0
    assert forward_ad._current_level < 0
