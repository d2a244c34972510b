"""Promises 26, 43 and 44: autocast, forked workers, Python threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.accuracy import assert_all_zero, assert_same_bits
from support.cached import Step, make_step
from support.cases import key_mask, make_inputs
from support.oracle import Masks

from masked_attn import expand_mask, masked_attention, masked_softmax

LOW = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("mixed", [False, True])
def test_26_autocast_casts_query_key_and_value(
    mixed: bool, low: torch.dtype, device: torch.device
) -> None:
    """As for torch's own attention: float32 is cast, and mixed dtypes are made one."""
    inputs = make_inputs(queries=5, keys=70, padding="left", device=device)
    expected = masked_attention(*(t.to(low) for t in inputs.tensors()), **inputs.masks.kwargs())
    if mixed:
        inputs.key = inputs.key.to(low)
    with torch.autocast(device.type, dtype=low):
        ours = inputs.call(masked_attention)
        again, logsumexp = inputs.call(masked_attention, return_logsumexp=True)
    assert_same_bits(ours, expected)
    assert_same_bits(again, expected)
    assert logsumexp.dtype == torch.float32


@pytest.mark.parametrize("low", LOW, ids=str)
def test_26_autocast_leaves_the_mask_alone(low: torch.dtype, device: torch.device) -> None:
    """finfo(float32).min and -1e9 would both be -inf in float16: a cast changes the meaning."""
    inputs = make_inputs(queries=5, keys=70, device=device)
    lowest = torch.full((5, 70), torch.finfo(torch.float32).min, device=device)
    biased = torch.full((5, 70), -1e9, device=device)
    scores = torch.randn(2, 2, 5, 70).to(device)
    with torch.autocast(device.type, dtype=low):
        assert_all_zero(inputs.call(masked_attention, attn_mask=lowest))
        assert_all_zero(masked_softmax(scores, attn_mask=lowest))
        uniform = inputs.call(masked_attention, attn_mask=biased)
        weights = masked_softmax(scores, attn_mask=biased)
    mean = inputs.value.mean(2, keepdim=True).expand_as(uniform)
    torch.testing.assert_close(uniform.float(), mean, rtol=0.02, atol=0.02)
    uniform = torch.full_like(scores, 1 / 70)
    torch.testing.assert_close(weights.float(), uniform, rtol=0.02, atol=0)


def test_26_autocast_leaves_float64_and_expand_mask_alone(device: torch.device) -> None:
    inputs = make_inputs(dtype=torch.float64, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert inputs.call(masked_attention).dtype == torch.float64
        mask = torch.ones(1, 3, device=device)
        assert expand_mask(mask, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("cache_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_26_autocast_never_casts_a_cache(cache_dtype: torch.dtype, device: torch.device) -> None:
    masks = Masks(key_mask("left", 2, 71))
    for new_dtype in (torch.float32, torch.bfloat16):
        options = {"cache_dtype": cache_dtype, "masks": masks, "garbage": 0.0}
        step = make_step(position=70, **options, device=device)
        step.new_key, step.new_value = step.new_key.to(new_dtype), step.new_value.to(new_dtype)
        written = [cache.float() for cache in step.written()]
        expected = step.clone()
        for name in ("query", "new_key", "new_value"):
            setattr(expected, name, getattr(expected, name).float())
        for other in (step.clone(), step):
            with torch.autocast(device.type, dtype=torch.bfloat16):
                out = other.call_device() if other is not step else other.call()
            torch.testing.assert_close(out.float(), expected.call().float(), rtol=0.05, atol=0.05)
        for cache, wanted in zip((step.key_cache, step.value_cache), written, strict=True):
            assert cache.dtype == cache_dtype
            torch.testing.assert_close(cache.float(), wanted, rtol=0.01, atol=0.01)
            assert cache[:, :, 70].count_nonzero(), "the new slot was not written"


FORKED = """
import torch
from torch.utils.data import DataLoader, Dataset
from masked_attn import expand_mask, masked_attention, masked_softmax

def work():
    torch.manual_seed(0)
    x = torch.randn(4, 4, 300, 32)
    expand_mask(torch.ones(4, 3000), dtype=torch.float32, causal=True)
    return masked_attention(x, x, x, causal=True) + masked_softmax(x, causal=True)

class Rows(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return work()

torch.set_num_threads(2)
expected = work()
loader = DataLoader(
    Rows(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
)
assert all(torch.equal(rows, expected) for rows in loader)
assert torch.equal(work(), expected)
print("finished")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks workers")
def test_43_forked_data_loader_workers_finish() -> None:
    """After the parent ran every operator on two threads; a hang fails after its time limit."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "finished"


@pytest.mark.parametrize("threads", [1, 2])
def test_44_many_python_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    prompts = [
        make_inputs(queries=n, keys=200, padding="left", causal=True) for n in (1, 9, 60, 200)
    ]
    expected = [inputs.call(masked_attention) for inputs in prompts]
    steps = [make_step(queries=2, position=100 + n) for n in range(4)]
    wanted = [step.clone().call() for step in steps]
    masks = [expand_mask(torch.ones(2, 50), dtype=torch.float32, causal=True)] * 4

    def work(number: int) -> None:
        index = number % 4
        assert_same_bits(prompts[index].call(masked_attention), expected[index])
        assert_same_bits(steps[index].clone().call(), wanted[index])
        mask = expand_mask(torch.ones(2, 50), dtype=torch.float32, causal=True)
        assert_same_bits(mask, masks[index])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(80)))


def test_44_threads_that_share_one_cache(device: torch.device) -> None:
    """Each thread owns its rows of one buffer."""
    step = make_step(batch=8, position=100, device=device)
    whole = step.clone()
    expected = whole.call()

    def work(row: int) -> None:
        mine = Step(*(t[row : row + 1] for t in step.tensors()), step.position, Masks())
        assert_same_bits(mine.call(), expected[row : row + 1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert_same_bits(step.key_cache, whole.key_cache)


def test_44_other_python_threads_run_meanwhile() -> None:
    """The interpreter lock is free while an operator works."""
    torch.set_num_threads(1)
    x = torch.randn(1, 8, 1500, 64)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    other = threading.Thread(target=tick)
    other.start()
    begin = time.perf_counter()
    masked_attention(x, x, x)
    end = time.perf_counter()
    stop.set()
    other.join()
    assert sum(begin < moment < end for moment in ticks) >= 3, f"none in {end - begin:.3f} s"


def test_44_thread_counts_may_change_between_calls() -> None:
    inputs = make_inputs(batch=3, queries=100, keys=100, padding="left", causal=True)
    expected = inputs.call(masked_attention)
    for threads in (1, 3, 2, 7, 1, 2):
        torch.set_num_threads(threads)
        assert_same_bits(inputs.call(masked_attention), expected)
