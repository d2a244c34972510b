"""#41, #42: ``torch.compile`` without graph breaks, few compilations, and ``torch.export``."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cached import make_step
from support.cases import make_inputs
from support.packed import make_packed
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from masked_attn import (
    cached_attention,
    expand_mask,
    masked_attention,
    masked_softmax,
    packed_attention,
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compilations(counter: CompileCounterWithBackend) -> int:
    """Compiled graphs that do something: dynamo also compiles an empty one if dynamic."""
    return sum(any(n.op == "call_function" for n in g.graph.nodes) for g in counter.graphs)


def needs_compiler(device: torch.device) -> None:
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        pytest.skip("inductor needs triton on CUDA and there is none")
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        pytest.skip("inductor needs a C++ compiler and there is none")


def whole_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Every operator without a cache in one function, with torch's own around them."""
    fused = masked_attention(query * 2, key, value, key_mask=mask.bool(), causal=True)
    queries = query.shape[2]
    bias = expand_mask(mask, dtype=query.dtype, query_length=queries, causal=True)
    weights = masked_softmax(query @ key.transpose(2, 3), attn_mask=bias, scale=0.5)
    return fused + weights @ value


def example(device: torch.device, **sizes: int) -> tuple[Tensor, ...]:
    sizes = {"batch": 2, "queries": 6, "keys": 6, **sizes}
    inputs = make_inputs(**sizes, padding="left", device=device)
    assert inputs.masks.key_mask is not None
    return (*inputs.tensors(), inputs.masks.key_mask.long())


@pytest.mark.parametrize("dynamic", [False, True])
def test_41_one_graph(dynamic: bool, device: torch.device) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(whole_attention, fullgraph=True, dynamic=dynamic, backend=counter)
    args = example(device)
    torch.testing.assert_close(compiled(*args), whole_attention(*args))
    assert compilations(counter) == 1


@pytest.mark.parametrize("dynamic", [None, True])
def test_41_few_compilations_over_growing_keys(dynamic: bool | None, device: torch.device) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(whole_attention, fullgraph=True, dynamic=dynamic, backend=counter)
    for keys in (6, 7, 8, 9, 20, 64, 65, 130):
        args = example(device, queries=2, keys=keys)
        torch.testing.assert_close(compiled(*args), whole_attention(*args))
    assert compilations(counter) <= 2


def decode(step: tuple[Tensor, ...], position: int, mask: Tensor) -> Tensor:
    return cached_attention(*step, position=position, key_mask=mask[:, : position + 1])


def test_41_few_compilations_over_a_growing_cache(device: torch.device) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(decode, fullgraph=True, backend=counter)
    mask = torch.ones(2, 60, dtype=torch.bool, device=device)
    mask[0, :2] = False
    ours = make_step(position=5, capacity=60, garbage=0.0, device=device)
    eager = ours.clone()
    for position in range(5, 25):
        result = compiled(ours.tensors(), position, mask)
        torch.testing.assert_close(result, decode(eager.tensors(), position, mask))
    assert torch.equal(ours.key_cache, eager.key_cache)
    assert torch.equal(ours.value_cache, eager.value_cache)
    assert compilations(counter) <= 2


def test_41_one_compilation_with_the_position_on_the_device(device: torch.device) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def decode_on_device(step: tuple[Tensor, ...], position: Tensor) -> Tensor:
        out = cached_attention(*step, position=position)
        position += 1
        return out

    compiled = torch.compile(decode_on_device, fullgraph=True, backend=counter)
    ours = make_step(position=5, capacity=60, garbage=0.0, device=device)
    position = torch.tensor(5, device=device)
    eager = ours.clone()
    for expected_position in range(5, 20):
        eager.position = expected_position
        torch.testing.assert_close(compiled(ours.tensors(), position), eager.call())
    assert torch.equal(ours.key_cache, eager.key_cache)
    assert compilations(counter) == 1


@pytest.mark.parametrize("own_keys", [False, True])
@pytest.mark.parametrize("dynamic", [None, True])
def test_41_few_compilations_over_packed_lengths(
    dynamic: bool | None, own_keys: bool, device: torch.device
) -> None:
    """Number of tokens, number of sequences and largest length change from call to call."""
    counter = CompileCounterWithBackend("aot_eager")

    def layer(query: Tensor, key: Tensor, value: Tensor, lengths: dict[str, Any]) -> Tensor:
        return packed_attention(query * 2, key, value, **lengths, causal=True) + query

    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend=counter)
    for lengths in ((5, 9), (70, 3, 8), (2, 2, 2, 2, 130), (6, 7, 8, 9, 10, 11)):
        packed = make_packed([(n, n + 2 * own_keys) for n in lengths], device=device)
        kwargs = {
            k: v for k, v in packed.kwargs().items() if k.endswith(("seqlens", "seqlen", "_k"))
        }
        expected = layer(*packed.tensors, kwargs)
        torch.testing.assert_close(compiled(*packed.tensors, kwargs), expected)
    assert compilations(counter) <= 2


def test_41_inductor(device: torch.device) -> None:
    """The default backend, which generates and builds code, with every operator in one graph."""
    needs_compiler(device)

    def layer(tensors: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        query, key, value, key_cache, value_cache = tensors
        step = cached_attention(query, key, value, key_cache, value_cache, position=5)
        return whole_attention(query, key, value, mask).relu() + step

    ours = make_step(queries=6, position=5, garbage=0.0, device=device)
    eager, mask = ours.clone(), example(device)[3]
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(compiled(ours.tensors(), mask), layer(eager.tensors(), mask))
    assert torch.equal(ours.key_cache, eager.key_cache)
    assert torch.equal(ours.value_cache, eager.value_cache)


def test_41_errors_come_through(device: torch.device) -> None:
    def wrong(query: Tensor, mask: Tensor) -> Tensor:
        return masked_attention(query, query, query, key_mask=mask)

    compiled = torch.compile(wrong, fullgraph=True, backend="aot_eager")
    mask = torch.ones(2, 5, dtype=torch.bool, device=device)
    with pytest.raises(Exception, match="key_mask must be"):
        compiled(torch.ones(2, 2, 4, 8, device=device), mask)


class Whole(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return whole_attention(query, key, value, mask)


class Prompts(nn.Module):
    def forward(self, query: Tensor, cu_seqlens: Tensor) -> Tensor:
        return packed_attention(query, query, query, cu_seqlens, 64, causal=True)


class Decode(nn.Module):
    def forward(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, mask: Tensor
    ) -> Tensor:
        return cached_attention(
            query, query, query, key_cache, value_cache, position=5, key_mask=mask
        )


def test_42_export_with_a_dynamic_batch(device: torch.device) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(
        Whole(), example(device, batch=3), dynamic_shapes=({0: batch},) * 4
    )
    for size in (2, 3, 7):
        args = example(device, batch=size)
        torch.testing.assert_close(program.module()(*args), whole_attention(*args))


def test_42_export_with_dynamic_tokens(device: torch.device) -> None:
    """The largest length is a constant of the program: it may be larger than any real one."""

    def arguments(*lengths: int) -> tuple[Tensor, Tensor]:
        packed = make_packed(lengths, device=device)
        return packed.tensors[0], packed.kwargs()["cu_seqlens"]

    shapes = ({0: torch.export.Dim("tokens", min=2)}, {0: torch.export.Dim("offsets", min=2)})
    program = torch.export.export(Prompts(), arguments(5, 9), dynamic_shapes=shapes)
    for lengths in ((5, 9), (64, 3, 8, 1), (2, 40)):
        args = arguments(*lengths)
        torch.testing.assert_close(program.module()(*args), Prompts()(*args))


def test_42_export_of_a_step_that_writes_its_cache(tmp_path: Path, device: torch.device) -> None:
    """Saved, loaded again, and the caches are still written in place."""
    batch = torch.export.Dim("batch", min=2, max=64)

    def arguments(size: int) -> tuple[Tensor, ...]:
        torch.manual_seed(size)
        caches = (torch.zeros(size, 2, 8, 16, device=device) for _ in range(2))
        mask = torch.ones(size, 6, dtype=torch.bool, device=device)
        return torch.randn(size, 2, 1, 16).to(device), *caches, mask

    shapes = ({0: batch}, {0: batch}, {0: batch}, {0: batch})
    program = torch.export.export(Decode(), arguments(3), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "step.pt2")
    loaded = torch.export.load(tmp_path / "step.pt2").module()
    ours, eager = arguments(5), arguments(5)
    torch.testing.assert_close(loaded(*ours), Decode()(*eager))
    assert torch.equal(ours[1], eager[1]) and ours[1].count_nonzero()


def test_compiled_function_takes_every_keyword(device: torch.device) -> None:
    """None, numbers and flags are constants of a graph, not breaks in it."""
    calls: tuple[Callable[[Any], Any], ...] = (
        lambda x: masked_attention(x, x, x, window=3, scale=0.5, return_logsumexp=True)[1],
        lambda x: masked_softmax(x, causal=True, window=2),
        lambda x: expand_mask(x[0, 0], dtype=torch.bfloat16, fill=-1e4, window=2),
    )
    x = torch.rand(1, 1, 6, 6).to(device)
    for call in calls:
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), call(x))


class Fused(nn.Module):
    def forward(self, query: Tensor, mask: Tensor) -> Tensor:
        return masked_attention(query, query, query, key_mask=mask, causal=True)


@pytest.mark.slow
def test_42_package_compiled_ahead_of_time(tmp_path: Path) -> None:
    """AOTInductor: built once, loaded without tracing, while the operators are loaded."""
    needs_compiler(torch.device("cpu"))
    args = torch.randn(3, 2, 6, 16), torch.rand(3, 6) < 0.7
    package = torch._inductor.aoti_compile_and_package(
        torch.export.export(Fused(), args),
        package_path=str(tmp_path / "fused.pt2"),
        inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},
    )
    loaded = torch._inductor.aoti_load_package(package)
    torch.testing.assert_close(loaded(*args), Fused()(*args))
