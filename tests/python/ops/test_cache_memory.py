"""62: memory of the caches that other arguments lie in, whatever storage object names it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.accuracy import assert_same_bits
from support.cached import Step, make_step
from support.errors import says
from support.oracle import Masks
from torch import Tensor

from masked_attn import cached_attention

OP = "cached_attention"


def another_storage(tensor: Tensor) -> Tensor:
    """The same memory under a storage of its own."""
    other = torch.from_dlpack(tensor.detach())
    assert other.data_ptr() == tensor.data_ptr()
    assert other.untyped_storage()._cdata != tensor.untyped_storage()._cdata
    return other


def refuses(step: Step, *names: str, calls: str = "call call_device", **changes: object) -> None:
    """Both overloads name both arguments, and write nothing."""
    before = step.key_cache.clone(), step.value_cache.clone()
    for call in calls.split():
        with says(OP, *names, "share memory"):
            getattr(step, call)(**changes)
    assert_same_bits(step.key_cache, before[0])
    assert_same_bits(step.value_cache, before[1])


@pytest.mark.parametrize("name", ["query", "new_key", "new_value"])
@pytest.mark.parametrize("cache", ["key_cache", "value_cache"])
def test_62_what_is_read_under_another_storage(name: str, cache: str, device: torch.device) -> None:
    step = make_step(queries=2, garbage=0.5, device=device)
    part = getattr(step, cache)[:, :, step.position : step.end]
    setattr(step, name, another_storage(part))
    refuses(step, name, cache)


def test_62_two_arrays_that_are_one() -> None:
    step = make_step(garbage=0.5)
    array = np.zeros(tuple(step.key_cache.shape), dtype=np.float32)
    step.key_cache, step.value_cache = torch.from_numpy(array), torch.from_numpy(array)
    refuses(step, "key_cache", "value_cache")
    step.value_cache = torch.from_numpy(array[:, :, ::-1].copy())
    step.call()


def test_62_inputs_of_another_dtype_than_the_caches(device: torch.device) -> None:
    """Each float32 query lies over two slots of a float16 cache."""
    step = make_step(cache_dtype=torch.float16, garbage=0.5, device=device)
    whole = step.key_cache.view(torch.float32)
    step.query = another_storage(whole)[:, :, :1].repeat(1, 1, 1, 2)
    step.call()
    short = step.value_cache.view(-1)[: step.query.numel() * 2].view(torch.float32)
    step.query = another_storage(short).view(step.query.shape)
    refuses(step, "query", "value_cache")


def flags_in(cache: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """A boolean mask, all True, inside the memory of a cache."""
    flags = another_storage(cache).view(-1).view(torch.bool).as_strided(shape, strides)
    flags.fill_(True)
    return flags


MASKS = {
    "0-D": ((), ()),
    "1-D": ((26,), (1,)),
    "1-D, every other": ((26,), (2,)),
    "2-D": ((1, 26), (26, 1)),
    "row for all": ((2, 1, 1, 26), (0, 0, 0, 1)),
    "key for all": ((2, 2, 1, 26), (4, 2, 1, 0)),
    "columns first": ((2, 2, 1, 26), (1, 2, 0, 4)),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("cache", ["key_cache", "value_cache"])
def test_62_masks_in_a_cache(kind: str, cache: str, device: torch.device) -> None:
    step = make_step(garbage=0.5, device=device)
    assert step.capacity == 26
    mask = flags_in(getattr(step, cache), *MASKS[kind])
    refuses(step, "attn_mask", cache, calls="call_device", attn_mask=mask)
    if mask.dim() > 0:
        refuses(step, "attn_mask", cache, calls="call", attn_mask=mask[..., : step.end])


@pytest.mark.parametrize("strides", [(26, 1), (0, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("cache", ["key_cache", "value_cache"])
def test_62_a_key_mask_in_a_cache(
    cache: str, strides: tuple[int, int], device: torch.device
) -> None:
    step = make_step(garbage=0.5, device=device)
    mask = flags_in(getattr(step, cache), (2, 26), strides)
    refuses(step, "key_mask", cache, calls="call_device", key_mask=mask)
    refuses(step, "key_mask", cache, calls="call", key_mask=mask[:, : step.end])


def test_62_a_float_mask_in_a_cache(device: torch.device) -> None:
    step = make_step(garbage=0.5, device=device)
    mask = step.key_cache[0, 0, 0, :1].expand(26)
    refuses(step, "attn_mask", "key_cache", calls="call_device", attn_mask=mask)
    refuses(step, "attn_mask", "key_cache", calls="call", attn_mask=mask[: step.end])


@pytest.mark.parametrize("cache", ["key_cache", "value_cache"])
def test_62_a_position_in_a_cache(cache: str, device: torch.device) -> None:
    step = make_step(garbage=0.5, device=device)
    getattr(step, cache).view(-1)[-2:].zero_()
    position = another_storage(getattr(step, cache)).view(-1).view(torch.int64)[-1]
    refuses(step, "position", cache, calls="call_device", position=position)


def interleaved(step: Step, dim: int) -> tuple[Tensor, Tensor]:
    """Both caches in one buffer, taking turns along `dim`; under two storages."""
    both = torch.stack([step.key_cache, step.value_cache], dim=dim)
    return both.select(dim, 0), another_storage(both).select(dim, 1)


@pytest.mark.parametrize("dim", range(4))
def test_62_caches_that_take_turns_in_one_buffer_are_apart(dim: int, device: torch.device) -> None:
    step = make_step(queries=2, device=device)
    expected, written = step.clone().call(), step.written()
    step.key_cache, step.value_cache = interleaved(step, dim)
    assert_same_bits(step.call(), expected)
    assert_same_bits(step.call_device(), expected)
    assert_same_bits(step.key_cache, written[0])
    assert_same_bits(step.value_cache, written[1])


def test_62_caches_of_other_strides_in_one_buffer(device: torch.device) -> None:
    """Rows of 16 in a grid of 48, then one element further, where the last row is met."""
    step = make_step(batch=1, heads=(2, 2), device=device)
    expected = step.clone().call()
    memory = torch.zeros(5000, device=device)
    key_cache = memory.as_strided((1, 2, 26, 16), (0, 2496, 48, 1))
    value_cache = another_storage(memory).as_strided((1, 2, 26, 16), (0, 16, 96, 1), 16)
    step.key_cache = key_cache.copy_(step.key_cache)
    step.value_cache = value_cache.copy_(step.value_cache)
    assert_same_bits(step.call(), expected)
    step.value_cache = another_storage(memory).as_strided((1, 2, 26, 16), (0, 16, 96, 1), 17)
    refuses(step, "key_cache", "value_cache")


def test_62_what_lies_between_the_rows_of_a_cache_is_apart(device: torch.device) -> None:
    step = make_step(device=device)
    expected = step.clone().call_device()
    buffer = torch.zeros(2, 2, 26, 20, device=device)
    step.key_cache = buffer[..., :16].copy_(step.key_cache)
    gap = another_storage(buffer)[0, 0, 0, 16:]
    position = gap[:2].view(torch.int64)[0].fill_(step.position)
    mask = another_storage(buffer)[0, 0, :, 18].fill_(0.0)
    assert_same_bits(step.call_device(position=position, attn_mask=mask), expected)


@pytest.mark.parametrize("seed", range(60))
def test_62_ranges_against_the_bytes_themselves(seed: int) -> None:
    """Random views of one buffer: the answer is that of marking every byte."""
    random = np.random.default_rng(seed)
    for _ in range(25):
        memory = torch.zeros(3000)
        shape = (int(random.integers(1, 3)), int(random.integers(1, 3)), 5, 4)
        views = [view_of(memory, shape, random) for _ in range(2)]
        marks = [bytes_of(view) for view in views]
        alone = all(len(mark) == view.numel() for mark, view in zip(marks, views, strict=True))
        apart = alone and not set(marks[0]) & set(marks[1])
        inputs = torch.ones(shape[0], shape[1], 1, 4)
        if apart:
            cached_attention(inputs, inputs, inputs, *views, position=0)
            continue
        with says(OP, "cache"):
            cached_attention(inputs, inputs, inputs, *views, position=0)


def view_of(memory: Tensor, shape: tuple[int, ...], random: np.random.Generator) -> Tensor:
    strides = [int(random.choice([4, 5, 8, 12, 20, 40, 41, 80, 160])) for _ in range(3)]
    if random.random() < 0.7:
        strides.sort(reverse=True)
    offset = int(random.integers(0, 400))
    return memory.as_strided(shape, (*strides, 1), offset)


def bytes_of(view: Tensor) -> set[int]:
    index = np.zeros(view.shape, dtype=np.int64) + view.storage_offset()
    for dim, (size, stride) in enumerate(zip(view.shape, view.stride(), strict=True)):
        steps = np.arange(size) * stride
        index += steps.reshape([-1 if d == dim else 1 for d in range(view.dim())])
    return set(index.ravel().tolist())


CLONED = ["key_cache", "value_cache"]


@pytest.mark.parametrize("call", ["call", "call_device"])
@pytest.mark.parametrize("cache", CLONED)
@pytest.mark.parametrize("written", ["original", "clone"])
def test_62_a_lazy_clone_of_a_cache_keeps_its_values(
    written: str, cache: str, call: str, device: torch.device
) -> None:
    step = make_step(queries=2, garbage=0.5, device=device)
    expected, caches = getattr(step.clone(), call)(), step.written()
    original = getattr(step, cache)
    clone = torch._lazy_clone(original)
    kept = original.clone()
    if written == "clone":
        setattr(step, cache, clone)
    assert_same_bits(getattr(step, call)(), expected)
    assert_same_bits(step.key_cache, caches[0])
    assert_same_bits(step.value_cache, caches[1])
    assert_same_bits(original if written == "clone" else clone, kept)


@pytest.mark.parametrize("call", ["call", "call_device"])
def test_62_arguments_that_are_lazy_clones_of_caches(call: str, device: torch.device) -> None:
    """One memory until one of them is written: then each has its own, so nothing overlaps."""
    step = make_step(queries=2, garbage=0.5, device=device)
    parts = {name: step.key_cache[:, :, 3:5].clone() for name in ("query", "new_key", "new_value")}
    plain = Step(*parts.values(), step.key_cache.clone(), step.key_cache.clone(), 20, Masks())
    expected, caches = getattr(plain.clone(), call)(), plain.written()
    for name in parts:
        setattr(step, name, torch._lazy_clone(step.key_cache)[:, :, 3:5])
    step.value_cache = torch._lazy_clone(step.key_cache)
    assert_same_bits(getattr(step, call)(), expected)
    assert_same_bits(step.key_cache, caches[0])
    assert_same_bits(step.value_cache, caches[1])
    for name, part in parts.items():
        assert_same_bits(getattr(step, name), part)


def test_62_inputs_that_are_lazy_clones_stay_lazy() -> None:
    step = make_step(device="cpu")
    for name in ("query", "new_key", "new_value"):
        setattr(step, name, torch._lazy_clone(getattr(step, name)))
    step.call()
    step.call_device()
    for part in step.tensors()[:3]:
        assert torch._C._is_cow_tensor(part)
