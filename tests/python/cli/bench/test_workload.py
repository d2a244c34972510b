"""Lengths on the command line, the batch they make, and names of sizes and systems."""

from __future__ import annotations

import argparse

import pytest

from masked_attn.cli.bench.setting import SIZES, size_named
from masked_attn.cli.bench.systems import SYSTEMS, default_systems
from masked_attn.cli.bench.workload import WORKLOADS, Workload, describe_lengths, parse_lengths


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("7", (7,)),
        ("64, 128, ..., 256", (64, 128, 192, 256)),
        ("10,8,...,2,5", (10, 8, 6, 4, 2, 5)),
        ("1,2,...,3", (1, 2, 3)),
        ("512x3", (512,) * 3),
        ("1,2,...,4x2", (1, 2, 3, 4, 4)),
    ],
)
def test_lengths(text: str, lengths: tuple[int, ...]) -> None:
    assert parse_lengths(text) == lengths


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "must be lengths like 64,128"),
        ("0", "must be lengths"),
        ("-3", "must be lengths"),
        ("4.5", "must be lengths"),
        ("8x", "must be lengths"),
        ("8x0", "must be lengths"),
        ("x8", "must be lengths"),
        ("...", "two lengths before"),
        ("1,...,8", "two lengths before"),
        ("1,2,...", "one after"),
        ("1,2,...,...", "must be lengths"),
        ("2,4,...,9", "does not lead to 9"),
        ("4,2,...,8", "does not lead to 8"),
        ("4,4,...,4", "does not lead to 4"),
        ("1,2,...,2", "does not lead to 2"),
        ("1,2,...,10000000000", "more than 4096 rows"),
        ("8x10000000000", "more than 4096 rows"),
    ],
)
def test_lengths_that_cannot_be_read(text: str, named: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=named):
        parse_lengths(text)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ((7,), "1 prompt of 7 tokens"),
        ((512,) * 8, "8 prompts of 512 tokens"),
        ((3, 9), "2 prompts of 3, 9 tokens"),
        (tuple(range(64, 513, 64)), "8 prompts of 64, 128, ..., 512 tokens"),
        ((5, 1, 2, 9, 4, 4, 4, 4, 4), "9 prompts of 1 to 9 tokens"),
    ],
)
def test_lengths_in_words(lengths: tuple[int, ...], words: str) -> None:
    assert describe_lengths(lengths) == words


def test_the_batch_is_padded_on_the_left_and_always_the_same() -> None:
    work = Workload("", (2, 3), 1)
    batch, again = work.batch(50, "cpu"), work.batch(50, "cpu")
    assert batch["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert batch["input_ids"][0, 0] == 0 and batch["input_ids"].max() < 50
    assert batch["input_ids"].equal(again["input_ids"])
    assert work.padding == pytest.approx(1 / 6)


def test_the_named_workloads() -> None:
    assert WORKLOADS["W1"].lengths == (64, 128, 192, 256, 320, 384, 448, 512)
    assert WORKLOADS["W1"].padding == pytest.approx(0.4375)
    assert WORKLOADS["W2"].padding == 0
    assert [work.new_tokens for work in WORKLOADS.values()] == [64, 64, 128]


@pytest.mark.parametrize(
    ("text", "size"), [("124m", "124M"), ("Small", "124M"), ("xl", "1558M"), ("demo", "demo")]
)
def test_names_of_sizes(text: str, size: str) -> None:
    assert size_named(text) == size
    assert size in (*SIZES, "demo")


def test_a_small_cache_is_compared_beside_float32_only() -> None:
    assert default_systems("float32") == tuple(SYSTEMS)
    assert default_systems("bfloat16") == tuple(SYSTEMS)[:-2]
