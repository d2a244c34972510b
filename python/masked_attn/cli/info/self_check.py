"""Runs every operator on small ragged inputs and compares it with ``masked_attn.reference``.

A smoke alarm for a broken build, in well under a second; the tests are the real examination.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from masked_attn import functional, reference
from masked_attn.cli.errors import first_line
from masked_attn.masks import padding_mask

__all__ = ["SelfCheck", "self_check"]

BATCH, HEADS, KV_HEADS, KEYS, HEAD_DIM = 3, 4, 2, 70, 24
LENGTHS = (KEYS, 33, 0)  # a full row, a padded one that straddles a tile, one of padding only
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 3e-2, torch.float16: 4e-3}

Case = tuple[str, Callable[[], "list[Tensor]"], Callable[[], "list[Tensor]"]]


@dataclass(frozen=True)
class SelfCheck:
    """What the check found: number of comparisons, a line for each that failed, the seconds."""

    cases: int
    failures: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.failures


def self_check() -> SelfCheck:
    """Compare each operator in each dtype with the reference in float64.

    Example:
        >>> self_check().failures
        []
    """
    start = time.perf_counter()
    failures = []
    cases = 0
    with torch.inference_mode():
        for dtype in TOLERANCE:
            for name, actual, expected in _cases(dtype):
                cases += 1
                problem = _problem(actual, expected, TOLERANCE[dtype])
                if problem:
                    failures.append(f"{name}, {dtype}: {problem}")
    return SelfCheck(cases, failures, time.perf_counter() - start)


def _cases(dtype: torch.dtype) -> Iterator[Case]:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    mask = padding_mask(torch.tensor(LENGTHS))
    scores = random(BATCH, HEADS, 9, KEYS)
    key, value = random(BATCH, KV_HEADS, KEYS, HEAD_DIM), random(BATCH, KV_HEADS, KEYS, HEAD_DIM)

    yield (
        "expand_mask",
        lambda: [functional.expand_mask(mask, dtype=dtype, query_length=9, causal=True)],
        lambda: [reference.expand_mask(mask, dtype=dtype, query_length=9, causal=True)],
    )
    yield (
        "masked_softmax",
        lambda: [functional.masked_softmax(scores, key_mask=mask, causal=True, scale=0.5)],
        lambda: [reference.masked_softmax(scores.double(), key_mask=mask, causal=True, scale=0.5)],
    )
    for queries in (1, KEYS):
        query = random(BATCH, HEADS, queries, HEAD_DIM)
        yield (
            f"masked_attention of {queries} queries",
            lambda q=query: list(  # type: ignore[misc]
                functional.masked_attention(
                    q, key, value, key_mask=mask, causal=True, return_logsumexp=True
                )
            ),
            lambda q=query: list(  # type: ignore[misc]
                reference.masked_attention(
                    q.double(), key.double(), value.double(), key_mask=mask, causal=True
                )
            ),
        )
        yield from _score_cases(query, key, value, mask)
    yield _packed_case(random(90, HEADS, HEAD_DIM), key[0], value[1])
    yield _cache_case(random(BATCH, HEADS, 1, HEAD_DIM), key, value, mask)
    x, weight = random(50, KEYS), random(HEAD_DIM + 1, KEYS)
    for transposed in (False, True):
        yield _linear_case(x, weight.t() if transposed else weight, transposed=transposed)


def _score_cases(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Iterator[Case]:
    """What changes scores: each alone."""
    per_head = torch.linspace(-1, 1, HEADS, dtype=torch.float64)
    options: dict[str, Any]
    for name, given in (
        ("softcap", 0.7),
        ("sinks", per_head),
        ("alibi_slopes", per_head * 0.1),
    ):
        options = {"key_mask": mask, "causal": True, name: given}
        yield (
            f"masked_attention of {query.shape[2]} queries with {name}",
            lambda options=options: [functional.masked_attention(query, key, value, **options)],  # type: ignore[misc]
            lambda options=options: [  # type: ignore[misc]
                reference.masked_attention(query.double(), key.double(), value.double(), **options)[
                    0
                ]
            ],
        )


def _packed_case(query: Tensor, key: Tensor, value: Tensor) -> Case:
    """Sequences of 17, 0, 70 and 3 queries with 5, 0, 60 and 5 keys."""
    key, value = (tensor.transpose(0, 1) for tensor in (key, value))
    lengths: dict[str, Any] = {"max_seqlen": 70, "max_seqlen_k": 60, "causal": True}
    lengths["cu_seqlens"] = torch.tensor([0, 17, 17, 87, 90])
    lengths["cu_seqlens_k"] = torch.tensor([0, 5, 5, 65, KEYS])
    return (
        "packed_attention",
        lambda: list(
            functional.packed_attention(query, key, value, **lengths, return_logsumexp=True)
        ),
        lambda: list(
            reference.packed_attention(query.double(), key.double(), value.double(), **lengths)
        ),
    )


def _cache_case(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Case:
    """The last key of ``key`` is new, the ones before it are in the cache."""
    new_key, new_value = key[:, :, -1:], value[:, :, -1:]

    def run(attend: Callable[..., Tensor], as_double: bool) -> list[Tensor]:
        tensors = (query, new_key, new_value, key.clone(), value.clone())
        if as_double:
            tensors = tuple(tensor.double() for tensor in tensors)  # type: ignore[assignment]
        tensors[3][:, :, -1:] = 0  # the slots that the operator must fill
        tensors[4][:, :, -1:] = 0
        out = attend(*tensors, position=KEYS - 1, key_mask=mask)
        return [out, tensors[3], tensors[4]]

    return (
        "cached_attention",
        lambda: run(functional.cached_attention, False),
        lambda: run(reference.cached_attention, True),
    )


def _linear_case(x: Tensor, weight: Tensor, *, transposed: bool) -> Case:
    """All the rows at once and the first alone, with all that may follow the sum."""
    weight = (weight * KEYS**-0.5).contiguous()
    bias, gate = x[0, : HEAD_DIM + 1], x[:, : HEAD_DIM + 1]

    def run(linear: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        tensors = [tensor.to(dtype) for tensor in (x, weight, bias, gate)]
        options: dict[str, Any] = {"transposed": transposed, "activation": "gelu"}
        batch = linear(*tensors[:3], **options, multiplier=tensors[3])
        return [batch, linear(tensors[0][:1], *tensors[1:3], **options)]

    return (
        f"linear, weight {list(weight.shape)}",
        lambda: run(functional.linear, x.dtype),
        lambda: run(reference.linear, torch.float64),
    )


def _problem(
    actual: Callable[[], list[Tensor]], expected: Callable[[], list[Tensor]], tolerance: float
) -> str:
    """Why the results differ, or nothing. An operator that raises is a finding, not a traceback."""
    try:
        results = actual()
    except RuntimeError as error:
        return first_line(error)
    # Not torch.testing: importing it takes longer than the whole check.
    for ours, truth in zip(results, expected(), strict=True):
        if ours.shape != truth.shape:
            return f"shape {list(ours.shape)}, not {list(truth.shape)}"
        distance = (ours.double() - truth.double()).abs()
        wrong = (ours != truth) & ~(distance <= tolerance)  # NaN is wrong, -inf where due is not
        if wrong.any():
            return f"{int(wrong.sum())} of {wrong.numel()} values are wrong"
    return ""
