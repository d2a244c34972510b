"""Attention against PyTorch's own, at GPT-2 124M shapes: a ragged prompt and a decode step.

    python benchmarks/first_look.py [--threads 2] [--repeats 7]

Batch 8, prompts of 64, 128, ..., 512 tokens, padded on the left (44 % padding), float32, 12 layers
of 12 heads of 64. Ours and the rival take turns in one process, each with its own tensors for every
layer; the table shows the best and the median of the repeats.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache

import masked_attn

BATCH, HEADS, HEAD_DIM, LAYERS, LENGTH = 8, 12, 64, 12, 512


def milliseconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def compare(name: str, ours: Callable[[], None], rival: Callable[[], None], repeats: int) -> None:
    """Print one row; the first turn of each warms up and does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for call, list_of in zip((ours, rival), times, strict=True):
            elapsed = milliseconds(call)
            if turn:
                list_of.append(elapsed)
    columns = [
        f"{mine:9.1f} {other:9.1f} {other / mine:7.2f}x"
        for mine, other in (map(min, times), map(statistics.median, times))
    ]
    print(f"{name:<34}", *columns)


def ragged_mask(length: int) -> Tensor:
    """Left-padded prompts; what is behind ``LENGTH`` are generated tokens."""
    prompts = torch.arange(1, BATCH + 1) * (LENGTH // BATCH)
    return masked_attn.masks.padding_mask(prompts + (length - LENGTH), total=length)


def prompt_rows(repeats: int) -> None:
    shape = (BATCH, LENGTH, HEADS, HEAD_DIM)
    layers = [[torch.randn(shape).transpose(1, 2) for _ in range(3)] for _ in range(LAYERS)]
    key_mask = ragged_mask(LENGTH)
    pairs = key_mask[:, None, None, :] & torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()

    def ours() -> None:
        for query, key, value in layers:
            masked_attn.masked_attention(query, key, value, key_mask=key_mask, causal=True)

    def rival() -> None:
        for query, key, value in layers:
            scaled_dot_product_attention(query, key, value, attn_mask=pairs)

    def ours_equal() -> None:
        for query, key, value in layers:
            masked_attn.masked_attention(query, key, value, causal=True)

    def rival_equal() -> None:
        for query, key, value in layers:
            scaled_dot_product_attention(query, key, value, is_causal=True)

    compare("prompt, ragged, 12 layers", ours, rival, repeats)
    compare("prompt, no padding, 12 layers", ours_equal, rival_equal, repeats)


def decode_row(repeats: int) -> None:
    ours_cache = masked_attn.KVCache(max_length=LENGTH + 64)
    rival_cache = DynamicCache()
    for layer in range(LAYERS):
        filled = torch.randn(2, BATCH, HEADS, LENGTH, HEAD_DIM)
        ours_cache.update(filled[0], filled[1], layer)
        rival_cache.update(filled[0], filled[1], layer)
    query, key, value = torch.randn(3, BATCH, HEADS, 1, HEAD_DIM)

    def ours() -> None:
        length = ours_cache.get_seq_length() + 1
        key_mask = ragged_mask(length)
        for layer in range(LAYERS):
            keys, values, position = ours_cache.reserve(key, value, layer)
            masked_attn.cached_attention(
                query, key, value, keys, values, position=position, key_mask=key_mask
            )
            ours_cache.advance(1, layer)

    def rival() -> None:
        length = rival_cache.get_seq_length() + 1
        mask = ragged_mask(length)[:, None, None, :]
        for layer in range(LAYERS):
            keys, values = rival_cache.update(key, value, layer)
            scaled_dot_product_attention(query, keys, values, attn_mask=mask)

    compare("decode step with cache, 12 layers", ours, rival, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns (default: 7)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"{platform.machine()}, {masked_attn._C.selected_instruction_set()}, "
        f"torch {torch.__version__}, {options.threads} threads, float32, milliseconds"
    )
    print(f"{'':<34} {'best':>19} {'':>8} {'median':>19}")
    print(f"{'':<34} {'ours':>9} {'torch':>9} {'ratio':>8} {'ours':>9} {'torch':>9} {'ratio':>8}")
    with torch.inference_mode():
        prompt_rows(options.repeats)
        decode_row(options.repeats)


if __name__ == "__main__":
    main()
