"""Promises 14, 31, 33 and 34 on CUDA: graphs, streams, no waiting, several devices.

Accuracy, bad inputs, exactness, autocast and large tensors on CUDA are in the other files, whose
tests run on each device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cached import Step, make_step
from support.cases import key_mask, make_inputs
from support.devices import CUDA
from support.errors import says
from support.oracle import Masks
from support.packed import make_packed
from torch import Tensor

from masked_attn import (
    cached_attention,
    expand_mask,
    masked_attention,
    masked_softmax,
    packed_attention,
)

pytestmark = pytest.mark.cuda

# About 0.1 s of a GPU: far longer than any call here takes on the host.
LONG_SLEEP = 200_000_000


@dataclass
class Work:
    """One operator call, and every tensor that it reads or writes."""

    tensors: list[Tensor]
    call: Callable[[], Any]
    caches: tuple[Tensor, ...] = ()

    def run(self) -> list[Tensor]:
        """The result, and the caches if there are some."""
        out = self.call()
        return [*(out if isinstance(out, tuple) else (out,)), *self.caches]

    def take(self, other: Work) -> None:
        """Copies the other's values into the same memory."""
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            mine.copy_(theirs)


def attention(queries: int, seed: int, device: torch.device, logsumexp: bool) -> Work:
    options = {"padding": ("left", "holes", "one_key")[seed % 3], "causal": True}
    inputs = make_inputs(
        batch=3, heads=(4, 2), queries=queries, keys=90, **options, device=device, seed=seed
    )
    assert inputs.masks.key_mask is not None
    tensors = [*inputs.tensors(), inputs.masks.key_mask]
    return Work(tensors, lambda: inputs.call(masked_attention, return_logsumexp=logsumexp))


def softmax(queries: int, seed: int, device: torch.device) -> Work:
    torch.manual_seed(seed)
    scores = torch.randn(3, 2, queries, 90).to(device)
    mask = key_mask(("left", "holes", "empty_row")[seed % 3], 3, 90, device)
    bias = torch.randn(3, 1, queries, 90).to(device)
    assert mask is not None
    return Work(
        [scores, bias, mask],
        lambda: masked_softmax(scores, key_mask=mask, attn_mask=bias, causal=True),
    )


def expand(queries: int, seed: int, device: torch.device) -> Work:
    torch.manual_seed(seed)
    mask = torch.randint(0, 2, (3, 90)).to(device)
    options = {"dtype": torch.float16, "query_length": queries, "causal": True}
    return Work([mask], lambda: expand_mask(mask, **options))


def packed(queries: int, seed: int, device: torch.device) -> Work:
    """The lengths of the keys differ from seed to seed, and are known to the device only."""
    keys = ((300, 120, 80), (100, 300, 100), (1, 99, 400), (8, 492, 0))[seed % 4]
    inputs = make_packed([(queries, n) for n in keys], heads=(4, 2), causal=True, device=device)
    kwargs = {**inputs.kwargs(), "max_seqlen_k": 492}
    tensors = [*inputs.tensors, kwargs["cu_seqlens"], kwargs["cu_seqlens_k"]]
    return Work(tensors, lambda: packed_attention(*inputs.tensors, **kwargs))


def cached(queries: int, seed: int, device: torch.device, on_device: bool) -> Work:
    """A position on the device differs from seed to seed, one on the host is part of the call."""
    position = 300 + (100 * seed if on_device else 0)
    keys = 1000 if on_device else position + queries
    masks = Masks(key_mask(("left", "holes", "full")[seed % 3], 3, keys, device))
    sizes = {"batch": 3, "heads": (4, 2), "queries": queries, "position": position}
    step = make_step(**sizes, capacity=1000, masks=masks, device=device, seed=seed)
    assert masks.key_mask is not None
    tensors, caches = [*step.tensors(), masks.key_mask], step.tensors()[3:]
    if not on_device:
        return Work(tensors, step.call, caches)
    where = torch.tensor(position, device=device)
    return Work([*tensors, where], lambda: step.call_device(where), caches)


MAKERS: dict[str, Callable[[int, int, torch.device], Work]] = {
    "masked_attention": lambda *args: attention(*args, logsumexp=False),
    "with logsumexp": lambda *args: attention(*args, logsumexp=True),
    "masked_softmax": softmax,
    "packed_attention": packed,
    "expand_mask": expand,
    "cached_attention": lambda *args: cached(*args, on_device=False),
    "position on the device": lambda *args: cached(*args, on_device=True),
}
each_operator = pytest.mark.parametrize("name", MAKERS)
# The few-query and the many-query kernels.
each_path = pytest.mark.parametrize("queries", [1, 40])


def make_work(name: str, queries: int, seed: int = 0, device: torch.device = CUDA) -> Work:
    return MAKERS[name](queries, seed, device)


def assert_all_same(ours: list[Tensor], expected: list[Tensor]) -> None:
    for number, (mine, wanted) in enumerate(zip(ours, expected, strict=True)):
        assert_same_bits(mine, wanted, f"result {number}")


def capture(call: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A graph of the call, and the result that each replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()  # loads the kernels, which a capture does not allow
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result


@each_path
@each_operator
def test_33_a_graph_replays_with_changed_inputs(name: str, queries: int) -> None:
    """Other values, masks, and positions on the device, in the memory that was captured."""
    work = make_work(name, queries)
    graph, results = capture(work.run)
    for seed in (1, 2, 3, 0):
        work.take(make_work(name, queries, seed))
        graph.replay()
        assert_all_same(results, make_work(name, queries, seed).run())


def test_33_one_graph_decodes_a_sequence() -> None:
    """The captured step advances its own position; the caches end as those of eager steps."""
    first, steps = 10, 30
    masks = Masks(key_mask("left", 3, first + steps, CUDA))
    step = make_step(
        batch=3, heads=(4, 2), position=first, capacity=first + steps, masks=masks, device=CUDA
    )
    eager, position = step.clone(), torch.tensor(first, device=CUDA)

    def decode() -> Tensor:
        out = step.call_device(position)
        position.add_(1)
        return out

    graph, out = capture(decode)
    position.fill_(first)
    for number in range(steps):
        for name in ("query", "new_key", "new_value"):
            new = torch.randn(getattr(step, name).shape).to(CUDA)
            getattr(step, name).copy_(new)
            setattr(eager, name, new)
        graph.replay()
        eager.position = first + number
        assert masks.key_mask is not None
        assert_same_bits(out, eager.call(key_mask=masks.key_mask[:, : eager.end]), f"step {number}")
    assert int(position) == first + steps
    assert_same_bits(step.key_cache, eager.key_cache)
    assert_same_bits(step.value_cache, eager.value_cache)


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_path
@each_operator
def test_33_34_work_is_put_on_the_current_stream_and_nobody_waits(name: str, queries: int) -> None:
    """The inputs arrive behind a long kernel of a stream; only that stream is synchronised."""
    arriving = make_work(name, queries, seed=1)
    expected = make_work(name, queries, seed=1).run()
    work, stream = make_work(name, queries, seed=0), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work.run()  # loads the kernels, and leaves memory for the call that counts
    torch.cuda.synchronize()
    with torch.cuda.stream(stream), waiting_is_an_error():
        torch.cuda._sleep(LONG_SLEEP)
        work.take(arriving)
        results = work.run()
        assert not stream.query(), "the call waited for the device"
    stream.synchronize()
    assert_all_same(results, expected)


@each_path
@each_operator
def test_34_a_second_device_while_the_first_is_current(name: str, queries: int) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs, there is one")
    expected = make_work(name, queries).run()
    results = make_work(name, queries, device=torch.device("cuda", 1)).run()
    assert torch.cuda.current_device() == 0
    assert all(result.device.index == 1 for result in results)
    assert_all_same([result.to(CUDA) for result in results], expected)


def test_14_attention_on_tensors_of_cpu_and_cuda() -> None:
    inputs = make_inputs(padding="left", attn="float32", device=CUDA)
    arguments = dict(zip(("query", "key", "value"), inputs.tensors(), strict=True))
    arguments |= {"key_mask": inputs.masks.key_mask, "attn_mask": inputs.masks.attn_mask}
    for name, tensor in arguments.items():
        wrong = "key" if name == "query" else name  # the query's device is the wanted one
        for logsumexp in (False, True):
            with says("masked_attention", wrong, "cpu", "cuda:0"):
                masked_attention(**{**arguments, name: tensor.cpu()}, return_logsumexp=logsumexp)
    scores = torch.ones(2, 2, 17, 17, device=CUDA)
    for name in ("key_mask", "attn_mask"):
        mask = arguments[name]
        with says("masked_softmax", name, "cpu", "cuda:0"):
            masked_softmax(scores, **{name: mask.cpu()})
        with says("masked_softmax", name, "cpu", "cuda:0"):
            masked_softmax(scores.cpu(), **{name: mask})


def test_14_cached_attention_on_tensors_of_cpu_and_cuda() -> None:
    names = ("query", "new_key", "new_value", "key_cache", "value_cache")
    step = make_step(device=CUDA, garbage=0.5)
    before = step.clone()
    arguments = dict(zip(names, step.tensors(), strict=True))
    for position in (20, torch.tensor(20, device=CUDA)):
        for name in names:
            wrong = "new_key" if name == "query" else name
            with says("cached_attention", wrong, "cpu", "cuda:0"):
                cached_attention(**{**arguments, name: arguments[name].cpu()}, position=position)
    with says("cached_attention", "position", "cpu", "cuda:0"):
        step.call(position=torch.tensor(20))
    assert_same_bits(step.key_cache, before.key_cache)
    assert_same_bits(step.value_cache, before.value_cache)


@each_path
@each_operator
def test_31_a_hundred_runs_beside_other_work_are_equal(name: str, queries: int) -> None:
    """Another stream keeps the GPU busy, so blocks start in another order."""
    expected = make_work(name, queries).run()
    work, noise = make_work(name, queries), torch.cuda.Stream()
    matrix = torch.ones(4000, 4000, device=CUDA)
    product = torch.empty_like(matrix)
    torch.cuda.synchronize()
    for number in range(100):
        if number % 10 == 0:
            with torch.cuda.stream(noise):
                torch.mm(matrix, matrix, out=product)
        assert_all_same(work.run(), expected)
    torch.cuda.synchronize()


def test_44_python_threads_with_streams_of_their_own() -> None:
    names = list(MAKERS)
    expected = {name: make_work(name, 40).run() for name in names}
    works = [make_work(names[number % len(names)], 40) for number in range(12)]
    torch.cuda.synchronize()

    def run(number: int) -> None:
        with torch.cuda.device(CUDA), torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                results = works[number].run()
                torch.cuda.current_stream().synchronize()
                assert_all_same(results, expected[names[number % len(names)]])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(12)))


def test_34_rows_of_one_cache_on_two_streams() -> None:
    """Two halves of a batch decode side by side into one buffer."""
    step = make_step(batch=4, heads=(4, 2), queries=3, position=400, device=CUDA)
    whole = step.clone()
    expected = whole.call()
    torch.cuda.synchronize()
    results, streams = [], [torch.cuda.Stream() for _ in range(2)]
    for stream, rows in zip(streams, (slice(0, 2), slice(2, 4)), strict=True):
        half = Step(*(t[rows] for t in step.tensors()), step.position, Masks())
        with torch.cuda.stream(stream):
            results.append(half.call())
    for stream in streams:
        stream.synchronize()
    assert_same_bits(torch.cat(results), expected)
    assert_same_bits(step.key_cache, whole.key_cache)
