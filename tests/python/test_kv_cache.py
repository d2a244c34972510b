"""KVBuffer: written in place, grown by doubling, rows moved between two buffers."""

from __future__ import annotations

import pytest
import torch

from masked_attn.kv_cache import KVBuffer


def states(batch=2, tokens=3, heads=2, dims=(4, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, heads, tokens, d, generator=generator) for d in dims)


def test_views_and_lengths():
    buffer = KVBuffer(capacity=8)
    assert (buffer.length, buffer.capacity, buffer.keys, buffer.values) == (0, 0, None, None)
    keys, values = buffer.append(*states())
    assert keys.shape == (2, 2, 3, 4)
    assert values.shape == (2, 2, 3, 6)
    assert keys.stride(0) == 2 * 8 * 4
    assert buffer.keys.data_ptr() == keys.data_ptr()
    assert (buffer.length, buffer.capacity) == (3, 8)


@pytest.mark.parametrize("step", [1, 3, 64, 65])
def test_appending_equals_concatenation(step):
    buffer, parts = KVBuffer(), []
    for seed in range(5):
        parts.append(states(tokens=step, seed=seed))
        keys, values = buffer.append(*parts[-1])
    assert torch.equal(keys, torch.cat([p[0] for p in parts], dim=2))
    assert torch.equal(values, torch.cat([p[1] for p in parts], dim=2))


def test_capacity_doubles_or_jumps_to_what_is_needed():
    buffer = KVBuffer(capacity=4)
    for tokens, capacity in [(4, 4), (1, 8), (3, 8), (20, 28), (1, 56)]:
        buffer.append(*states(tokens=tokens))
        assert buffer.capacity == capacity
    assert KVBuffer().reserve(*states(tokens=1))[0].shape[2] == 64


def test_reserve_writes_nothing_and_advance_counts():
    buffer = KVBuffer(capacity=8)
    buffer.append(*states())
    key, value, position = buffer.reserve(*states(tokens=2))
    assert position == buffer.length == 3
    assert key.shape[2] == value.shape[2] == 8
    buffer.advance(2)
    assert buffer.length == 5
    with pytest.raises(ValueError, match="capacity 8"):
        buffer.advance(4)


def test_crop_and_clear_keep_the_memory():
    buffer = KVBuffer(capacity=8)
    keys, _ = buffer.append(*states())
    buffer.crop(1)
    assert torch.equal(buffer.keys, states()[0][:, :, :1])
    buffer.crop(5)
    assert buffer.length == 1
    buffer.clear()
    buffer.append(*states(seed=1))
    assert buffer.keys.data_ptr() == keys.data_ptr()
    assert torch.equal(buffer.keys, states(seed=1)[0])


def test_an_empty_buffer_takes_another_shape_and_a_full_one_refuses():
    buffer = KVBuffer()
    buffer.append(*states())
    with pytest.raises(ValueError, match="reset the cache"):
        buffer.append(*states(heads=1))
    buffer.clear()
    assert buffer.append(*states(batch=1, heads=1))[0].shape == (1, 1, 3, 4)


@pytest.mark.parametrize("rows", [[1, 0, 2], [2, 2, 2], [0], [0, 1, 1, 2, 2]])
def test_select(rows):
    buffer = KVBuffer(capacity=8)
    buffer.append(*states(batch=3))
    for _ in range(2):
        expected = buffer.keys[torch.tensor(rows)], buffer.values[torch.tensor(rows)]
        buffer.select(torch.tensor(rows))
        assert torch.equal(buffer.keys, expected[0])
        assert torch.equal(buffer.values, expected[1])
        assert (buffer.length, buffer.capacity) == (3, 8)
        if len(rows) != 3:
            break


def test_select_keeps_the_graph():
    buffer = KVBuffer()
    key, value = states()
    buffer.append(key.requires_grad_(), value)
    buffer.select(torch.tensor([1, 1]))
    buffer.keys.sum().backward()
    assert torch.equal(key.grad[:, 0, 0, 0], torch.tensor([0.0, 2.0]))


def test_grad_mode_concatenates_and_keeps_what_backward_needs():
    buffer = KVBuffer(capacity=8)
    key, value = (x.requires_grad_() for x in states())
    keys, _ = buffer.append(key, value)
    assert buffer.requires_grad
    loss = (keys * keys).sum()
    with torch.no_grad():
        buffer.crop(1)
        buffer.append(*states(tokens=2, seed=1))
    assert not buffer.requires_grad
    loss.backward()
    torch.testing.assert_close(key.grad, 2 * key)


def test_storage_dtype_is_kept_while_growing():
    buffer = KVBuffer(capacity=2, dtype=torch.float16)
    for seed in range(4):
        keys, _ = buffer.append(*states(tokens=1, seed=seed))
    assert keys.dtype == torch.float16
    assert buffer.capacity == 4


def test_bad_capacity():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        KVBuffer(capacity=0)


def other_values(kind, value):
    return {
        "one token": value[:, :, :1],
        "more tokens": torch.cat([value, value], dim=2),
        "one row": value[:1],
        "one head": value[:, :1],
        "no heads": value[:, 0],
        "meta": value.to("meta"),
    }[kind]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize(
    "kind", ["one token", "more tokens", "one row", "one head", "no heads", "meta"]
)
def test_values_that_do_not_fit_the_keys_leave_the_buffer_as_it_was(kind, filled, grad):
    buffer = KVBuffer(capacity=8)
    if filled:
        buffer.append(*states())
    key, value = states(seed=1)
    wrong = other_values(kind, value)
    for take in (buffer.append, buffer.reserve):
        with pytest.raises(ValueError, match="new_value"):
            take(key.requires_grad_(grad), wrong)
    with pytest.raises(ValueError, match="new_key|new_value"):
        buffer.append(wrong, key)
    assert buffer.length == (3 if filled else 0)
    if filled:
        assert torch.equal(buffer.keys, states()[0])
        assert torch.equal(buffer.values, states()[1])
    with torch.no_grad():
        buffer.append(key, value)
    assert torch.equal(buffer.values[:, :, -3:], value)


@pytest.mark.parametrize("grad", [False, True])
def test_a_full_buffer_names_what_does_not_fit(grad):
    buffer = KVBuffer(capacity=8)
    buffer.append(*states())
    for name, dims in {"keys": (5, 6), "values": (4, 7)}.items():
        key, value = states(dims=dims)
        with pytest.raises(ValueError, match=f"holds {name} .*reset the cache"):
            buffer.append(key.requires_grad_(grad), value)
    with pytest.raises(ValueError, match="holds keys on cpu, got meta"):
        buffer.append(*(s.to("meta").requires_grad_(grad) for s in states()))
    assert buffer.length == 3
    assert torch.equal(buffer.keys, states()[0])


def test_a_copy_that_fails_counts_nothing(monkeypatch):
    buffer = KVBuffer(capacity=8)
    buffer.append(*states())
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "copy_", failing(after=1))
        with pytest.raises(MemoryError):
            buffer.append(*states(seed=1))
    assert buffer.length == 3
    assert torch.equal(buffer.keys, states()[0])
    assert torch.equal(buffer.values, states()[1])


def test_memory_that_does_not_suffice_for_both_leaves_the_buffer_as_it_was(monkeypatch):
    buffer = KVBuffer(capacity=3)
    buffer.append(*states())
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", failing(after=1, then=torch.empty))
        with pytest.raises(MemoryError):
            buffer.append(*states(seed=1))
    assert (buffer.length, buffer.capacity) == (3, 3)
    keys, values = buffer.append(*states(seed=1))
    assert torch.equal(keys, torch.cat([states()[0], states(seed=1)[0]], dim=2))
    assert torch.equal(values, torch.cat([states()[1], states(seed=1)[1]], dim=2))


def failing(after, then=torch.Tensor.copy_):
    """`then`, which runs out of memory after so many calls."""
    calls = iter(range(after))

    def call(*args, **kwargs):
        if next(calls, None) is None:
            raise MemoryError
        return then(*args, **kwargs)

    return call


def test_slots_can_not_be_advanced_backwards():
    buffer = KVBuffer(capacity=8)
    buffer.append(*states())
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        buffer.advance(-1)
    assert buffer.length == 3


@pytest.mark.parametrize("grad", [False, True])
def test_keys_and_values_may_differ_in_dtype(grad):
    """In an autocast region a norm of the keys gives them another dtype than the values."""
    buffer = KVBuffer(capacity=8)
    parts = [states(seed=seed) for seed in range(2)]
    for key, value in parts:
        keys, values = buffer.append(key.clone().requires_grad_(grad), value.bfloat16())
    assert (keys.dtype, values.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(keys, torch.cat([key for key, _ in parts], 2))
    assert torch.equal(values, torch.cat([value.bfloat16() for _, value in parts], 2))


def test_what_is_assigned_is_never_written():
    buffer = KVBuffer(capacity=8)
    old = buffer.append(*states())
    given = states(tokens=5, seed=1)
    buffer.keys, buffer.values = given
    assert buffer.keys is given[0]
    assert (buffer.length, buffer.capacity) == (5, 5)
    buffer.crop(4)
    buffer.append(*states(tokens=1, seed=2))
    buffer.select(torch.tensor([1, 0]))
    buffer.clear()
    buffer.append(*states(tokens=8, seed=3))
    for held, expected in ((old, states()), (given, states(tokens=5, seed=1))):
        assert torch.equal(held[0], expected[0])
        assert torch.equal(held[1], expected[1])


@pytest.mark.parametrize(
    ("hint", "tokens", "capacity"), [(16, 4, 16), (16, 16, 32), (None, 4, 64), (None, 70, 140)]
)
def test_the_write_after_an_assignment_makes_room_for_more(hint, tokens, capacity):
    buffer = KVBuffer(capacity=hint)
    buffer.keys, buffer.values = states(tokens=tokens)
    keys, values = buffer.append(*states(tokens=1, seed=1))
    assert buffer.capacity == capacity
    address = keys.data_ptr()
    assert buffer.append(*states(tokens=1, seed=2))[0].data_ptr() == address
    assert torch.equal(
        values, torch.cat([states(tokens=tokens)[1], states(1 + 1, 1, seed=1)[1]], 2)
    )


@pytest.mark.parametrize("grad", [False, True])
def test_assigned_keys_and_values_must_fit_before_more_is_written(grad):
    buffer = KVBuffer(capacity=8)
    buffer.append(*states())
    buffer.keys = buffer.keys[:, :, 1:]
    for take in (buffer.append, buffer.reserve):
        with pytest.raises(
            ValueError, match=r"\[2, 2, 2, 4\] and values \[2, 2, 3, 6\] do not fit"
        ):
            take(*(part.requires_grad_(grad) for part in states(seed=1)))
    buffer.values = buffer.values[:, :, 1:]
    keys, _ = buffer.append(*states(seed=1))
    assert torch.equal(keys, torch.cat([states()[0][:, :, 1:], states(seed=1)[0]], 2))


def test_an_assigned_half_of_nothing_is_moved_as_it_is():
    buffer = KVBuffer()
    buffer.values = states()[1]
    buffer.select(torch.tensor([1, 0]))
    buffer.crop(0)
    buffer.to("cpu")
    assert (buffer.keys, buffer.length, buffer.capacity) == (None, 0, 0)
    assert torch.equal(buffer.values, states()[1])
    buffer.keys = states()[0]
    assert torch.equal(buffer.append(*states(tokens=1))[1][:, :, :3], states()[1])
