"""Bad ``softcap``, ``sinks`` and ``alibi_slopes``: refused by name, by every operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.accuracy import assert_same_bits
from support.cached import make_step
from support.cases import DTYPES, make_inputs
from support.errors import says
from support.packed import make_packed
from support.scores import KINDS, score_options

from masked_attn import masked_attention

Call = Callable[..., Any]
BATCH, HEADS = 2, 4


def every_call(device: torch.device, dtype: torch.dtype = torch.float32) -> dict[str, Call]:
    """Each operator on two rows (sequences) and four heads; keyword arguments are added."""
    sizes: dict[str, Any] = {"heads": (HEADS, 2), "dtype": dtype, "device": device}
    inputs = make_inputs(batch=BATCH, queries=5, keys=9, **sizes)
    packed = make_packed((5, 9), **sizes)
    step = make_step(batch=BATCH, garbage=0.0, **sizes)
    return {
        "masked_attention": lambda **more: inputs.call(masked_attention, **more),
        "masked with logsumexp": lambda **more: inputs.call(
            masked_attention, return_logsumexp=True, **more
        ),
        "packed_attention": packed.call,
        "packed with logsumexp": lambda **more: packed.call(return_logsumexp=True, **more),
        "cached_attention": step.call,
        "cached, position on the device": step.call_device,
    }


OPERATORS = tuple(every_call(torch.device("cpu")))


def operator(name: str) -> str:
    return next(f"{each}_attention" for each in ("masked", "packed", "cached") if each in name)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("softcap", [0.0, -1.0, math.inf, -math.inf, math.nan, 1e39, 1e-60])
def test_24_softcap_must_be_finite_and_above_0(
    softcap: float, name: str, device: torch.device
) -> None:
    with says(operator(name), "softcap must be finite and above 0 in float32, got"):
        every_call(device)[name](softcap=softcap)


@pytest.mark.parametrize("name", OPERATORS)
def test_24_a_softcap_of_float64_may_be_larger(name: str, device: torch.device) -> None:
    call = every_call(device, torch.float64)[name]
    call(softcap=1e39)
    with says(operator(name), "softcap", "float64", "nan"):
        call(softcap=math.nan)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("option", ["sinks", "alibi_slopes"])
@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str
)
def test_28_dtypes(dtype: torch.dtype, option: str, name: str, device: torch.device) -> None:
    values = torch.ones(HEADS, device=device).to(dtype)
    shown = str(dtype).removeprefix("torch.")
    with says(operator(name), f"{option} must be float32, float64, float16 or bfloat16", shown):
        every_call(device)[name](**{option: values})


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shape", [(), (3,), (1,), (5,), (1, 4), (2, 4), (4, 1, 1)], ids=str)
def test_16_shapes_of_sinks(shape: tuple[int, ...], name: str, device: torch.device) -> None:
    with says(operator(name), f"sinks must be [heads] = [4], got {list(shape)}"):
        every_call(device)[name](sinks=torch.ones(shape, device=device))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "shape", [(), (3,), (1,), (2,), (1, 4), (2, 3), (4, 2), (3, 4), (2, 4, 1)], ids=str
)
def test_16_shapes_of_slopes(shape: tuple[int, ...], name: str, device: torch.device) -> None:
    rows = "sequences" if name.startswith("packed") else "batch"
    wanted = f"alibi_slopes must be [heads] = [4] or [{rows}, heads] = [2, 4], got {list(shape)}"
    with says(operator(name), wanted):
        every_call(device)[name](alibi_slopes=torch.ones(shape, device=device))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("option", ["sinks", "alibi_slopes"])
def test_14_another_device(option: str, name: str, device: torch.device) -> None:
    with says(operator(name), f"{option} must be on the device of query", "meta"):
        every_call(device)[name](**{option: torch.ones(HEADS, device="meta")})


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("option", ["sinks", "alibi_slopes"])
def test_27_a_wanted_gradient_is_refused(option: str, name: str, device: torch.device) -> None:
    """gpt-oss learns its sinks: a missing gradient must not be silent."""
    call = every_call(device)[name]
    values = torch.ones(HEADS, device=device, requires_grad=True)
    reason = "not differentiable" if name.startswith("cached") else "no gradient yet"
    with says(operator(name), reason):
        call(**{option: values})
    with torch.no_grad():
        call(**{option: values})


@pytest.mark.parametrize("name", OPERATORS)
def test_25_no_heads_and_no_rows(name: str, device: torch.device) -> None:
    """Empty sizes are no error: [0] sinks for no heads, [0, heads] slopes for no rows."""
    sizes: dict[str, Any] = {"device": device}
    none = torch.zeros(0, device=device)
    if name.startswith("packed"):
        empty = make_packed((), heads=(4, 2), **sizes)
        empty.call(alibi_slopes=torch.zeros(0, 4, device=device))
        return
    if name.startswith("cached"):
        step = make_step(batch=0, heads=(4, 2), **sizes)
        step.call(alibi_slopes=torch.zeros(0, 4, device=device))
        return
    inputs = make_inputs(heads=(0, 0), **sizes)
    inputs.call(masked_attention, sinks=none, alibi_slopes=none)


@pytest.mark.parametrize("option", ["sinks", "alibi_slopes"])
@pytest.mark.parametrize("cache", ["key_cache", "value_cache"])
def test_18_caches_that_hold_the_sinks_are_refused(
    cache: str, option: str, device: torch.device
) -> None:
    """They would be overwritten before they are read."""
    step = make_step(heads=(4, 2), device=device, garbage=0.0)
    values = getattr(step, cache)[0, 0, 0, :4]
    for call in (step.call, step.call_device):
        with says("cached_attention", cache, option, "share memory"):
            call(**{option: values})


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_26_autocast_leaves_sinks_and_slopes_alone(
    kind: str, low: torch.dtype, device: torch.device
) -> None:
    options = score_options(kind, BATCH, HEADS, device=device)
    options = {**options, "softcap": 1.1}
    for name, call in every_call(device).items():
        if name.startswith("cached"):
            continue
        with torch.autocast(device.type, dtype=low):
            ours = call(**options)
        expected = every_call(device, low)[name](**options)
        pairs = zip(*((x,) if torch.is_tensor(x) else x for x in (ours, expected)), strict=True)
        for mine, wanted in pairs:
            assert_same_bits(mine, wanted, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_05_nan_slopes_show(dtype: torch.dtype, device: torch.device) -> None:
    inputs = make_inputs(heads=(4, 2), queries=9, keys=9, causal=True, dtype=dtype, device=device)
    slopes = torch.tensor([0.0, math.nan, 0.0, 0.0], device=device)
    out = inputs.call(masked_attention, alibi_slopes=slopes)
    assert out[:, 1].isnan().all() and not out[:, [0, 2, 3]].isnan().any()
