"""What is not supported, or wrong, is refused by the name of the function and the argument."""

from __future__ import annotations

import pytest
import torch
from support.errors import says

from masked_attn import flash

CU = torch.tensor([0, 2, 5], dtype=torch.int32)


def ones(*shape, **options):
    return torch.ones(*shape, **options)


def call(name, **changed):
    """A call that is right, but for what is changed."""
    lengths = {"cu_seqlens_q": CU, "cu_seqlens_k": CU, "max_seqlen_q": 3, "max_seqlen_k": 3}
    arguments = {
        "flash_attn_func": {each: ones(1, 5, 2, 8) for each in "qkv"},
        "flash_attn_kvpacked_func": {"q": ones(1, 5, 2, 8), "kv": ones(1, 5, 2, 2, 8)},
        "flash_attn_qkvpacked_func": {"qkv": ones(1, 5, 3, 2, 8)},
        "flash_attn_varlen_func": {each: ones(5, 2, 8) for each in "qkv"} | lengths,
        "flash_attn_varlen_kvpacked_func": {"q": ones(5, 2, 8), "kv": ones(5, 2, 2, 8)} | lengths,
        "flash_attn_varlen_qkvpacked_func": {
            "qkv": ones(5, 3, 2, 8),
            "cu_seqlens": CU,
            "max_seqlen": 3,
        },
        "flash_attn_with_kvcache": {
            "q": ones(2, 1, 2, 8),
            "k_cache": torch.zeros(2, 4, 2, 8),
            "v_cache": torch.zeros(2, 4, 2, 8),
            "k": ones(2, 1, 2, 8),
            "v": ones(2, 1, 2, 8),
            "cache_seqlens": torch.tensor([0, 2], dtype=torch.int32),
        },
    }[name]
    return getattr(flash, name)(**(arguments | changed))


FUNCTIONS = [name for name in flash.__all__ if name.startswith("flash_attn")]
WITH_DROPOUT = [name for name in FUNCTIONS if name != "flash_attn_with_kvcache"]
CACHE = "flash_attn_with_kvcache"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_calls_below_are_right_but_for_what_is_changed(name):
    call(name)


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout(name):
    with says(name, "dropout", "0.1"):
        call(name, dropout_p=0.1)


def tensor_names(name):
    if name == CACHE:
        return ["q", "k_cache", "v_cache", "k", "v"]
    if "qkvpacked" in name:
        return ["qkv"]
    return ["q", "kv"] if "kvpacked" in name else ["q", "k", "v"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_15_gradients(name):
    shapes = {CACHE: {"k_cache": (2, 4, 2, 8), "v_cache": (2, 4, 2, 8)}}.get(name, {})
    default = (2, 1, 2, 8) if name == CACHE else (5, 2, 8) if "varlen" in name else (1, 5, 2, 8)
    for each in tensor_names(name):
        stacked = {"qkv": 3, "kv": 2}.get(each)
        shape = shapes.get(each, default)
        if stacked:
            shape = (*shape[:-2], stacked, *shape[-2:])
        tensor = ones(*shape, requires_grad=True)
        with says(name, "gradient"):
            call(name, **{each: tensor})
        with torch.no_grad():
            call(name, **{each: tensor})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores(name):
    with says(name, "window_size"):
        call(name, window_size=(1, 2, 3))
    with says(name, "softmax_scale", "nan"):
        call(name, softmax_scale=float("nan"))
    with says(name, "softcap", "inf"):
        call(name, softcap=float("inf"))
    with says(name, "alibi_slopes", "[heads] = [2]", "[3]"):
        call(name, alibi_slopes=ones(3))
    with says(name, "alibi_slopes", "[batch, heads]", "[7, 2]"):
        call(name, alibi_slopes=ones(7, 2))


@pytest.mark.parametrize(
    ("name", "changed", "parts"),
    [
        ("flash_attn_func", {"q": ones(5, 2, 8)}, ["q must be", "[5, 2, 8]"]),
        ("flash_attn_func", {"k": ones(1, 5, 2, 4)}, ["k must be", "[1, 5, 2, 4]"]),
        ("flash_attn_func", {"v": ones(1, 4, 2, 8)}, ["v must be", "[1, 4, 2, 8]"]),
        ("flash_attn_kvpacked_func", {"kv": ones(1, 5, 3, 2, 8)}, ["kv must be"]),
        ("flash_attn_qkvpacked_func", {"qkv": ones(1, 5, 2, 2, 8)}, ["qkv must be"]),
        ("flash_attn_varlen_func", {"q": ones(1, 5, 2, 8)}, ["q must be", "[1, 5, 2, 8]"]),
        ("flash_attn_varlen_func", {"v": ones(4, 2, 8)}, ["v must be", "[4, 2, 8]"]),
        ("flash_attn_varlen_kvpacked_func", {"kv": ones(5, 3, 2, 8)}, ["kv must be"]),
        ("flash_attn_varlen_qkvpacked_func", {"qkv": ones(5, 2, 2, 8)}, ["qkv must be"]),
        (CACHE, {"q": ones(2, 2, 8)}, ["q must be"]),
        (CACHE, {"k_cache": torch.zeros(2, 4, 2, 4)}, ["k_cache must be", "[2, 4, 2, 4]"]),
        (CACHE, {"v_cache": torch.zeros(2, 5, 2, 8)}, ["v_cache must be", "[2, 5, 2, 8]"]),
        (CACHE, {"k": ones(2, 1, 1, 8)}, ["k must be"]),
        (CACHE, {"v": ones(2, 2, 2, 8)}, ["v must be"]),
        (CACHE, {"v": None}, ["k and v", "together"]),
        (CACHE, {"k_cache": torch.zeros(1, 4, 2, 8)}, ["v_cache must be"]),
        (CACHE, {"cache_seqlens": None}, ["cache_seqlens"]),
        (CACHE, {"cache_seqlens": torch.tensor([1])}, ["cache_seqlens must be [batch] = [2]"]),
        (CACHE, {"cache_seqlens": ones(2)}, ["cache_seqlens", "float32"]),
        (CACHE, {"cache_batch_idx": torch.tensor([0, 2])}, ["cache_batch_idx", "[0, 2)", "2"]),
        (CACHE, {"cache_batch_idx": torch.tensor([-1, 0])}, ["cache_batch_idx", "-1"]),
        (CACHE, {"cache_leftpad": torch.tensor([0, -1])}, ["cache_leftpad", "-1"]),
        (CACHE, {"rotary_cos": ones(4, 4)}, ["rotary_cos and rotary_sin"]),
        (CACHE, {"k": None, "v": None, "rotary_cos": ones(4, 4), "rotary_sin": ones(4, 4)}, ["k"]),
        (CACHE, {"rotary_cos": ones(4, 5), "rotary_sin": ones(4, 5)}, ["10 dimensions"]),
        (CACHE, {"rotary_cos": ones(2, 4), "rotary_sin": ones(2, 4)}, ["positions", "[0, 2)"]),
        (CACHE, {"k": ones(2, 1, 2, 8).half()}, ["k must be", "float16"]),
        (CACHE, {"k_cache": torch.zeros(2, 4, 2, 8).half()}, ["v_cache must be", "float32"]),
    ],
    ids=str,
)
def test_arguments(name, changed, parts):
    with says(name, *parts):
        call(name, **changed)


@pytest.mark.parametrize(
    ("filled", "found"),
    [(torch.tensor([0, 4]), 4), (torch.tensor([-1, 0]), -1), (4, 4), (-1, -1)],
    ids=str,
)
def test_a_cache_that_is_too_short_is_refused_before_anything_is_written(filled, found):
    caches = {"k_cache": torch.zeros(2, 4, 2, 8), "v_cache": torch.zeros(2, 4, 2, 8)}
    with says(CACHE, "cache_seqlens", "[0, 3]", str(found)):
        call(CACHE, **caches, cache_seqlens=filled)
    assert not caches["k_cache"].count_nonzero() and not caches["v_cache"].count_nonzero()
    with says(CACHE, "k has 5 tokens", "4 slots"):
        call(CACHE, **caches, k=ones(2, 5, 2, 8), v=ones(2, 5, 2, 8))


def test_62_caches_of_one_memory():
    cache = torch.zeros(2, 4, 2, 8)
    with says(CACHE, "k_cache and v_cache are the same memory"):
        call(CACHE, k_cache=cache, v_cache=cache.view_as(cache))


def test_blocks():
    table = torch.tensor([[0, 1], [2, -1]], dtype=torch.int32)
    pages = {"k_cache": torch.zeros(3, 2, 2, 8), "v_cache": torch.zeros(3, 2, 2, 8)}
    with says(CACHE, "block_table", "-1"):
        call(CACHE, **pages, block_table=table)
    assert not pages["k_cache"].count_nonzero()
    table[1, 1] = 3
    with says(CACHE, "block_table", "[0, 3)", "3"):
        call(CACHE, **pages, block_table=table)
    table[1, 1] = 0
    with says(CACHE, "cache_batch_idx and block_table"):
        call(CACHE, **pages, block_table=table, cache_batch_idx=torch.tensor([0, 1]))
    call(CACHE, **pages, block_table=table)


@pytest.mark.parametrize("name", ["flash_attn_func", "flash_attn_varlen_func"])
def test_dtypes_and_devices_are_those_of_the_operators(name):
    shape = (5, 2, 8) if "varlen" in name else (1, 5, 2, 8)
    for changed in ({"q": ones(*shape, dtype=torch.int64)}, {"k": ones(*shape).double()}):
        with pytest.raises(RuntimeError, match="attention: "):
            call(name, **changed)
