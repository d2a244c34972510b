"""Whole generates, row by row beside each prompt alone: how many rows have other bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hf.models import PAD, VOCAB, gpt2
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

# No size is a multiple of a vector: heads of 9, widths of 36 and 300, 101 words. 300 inputs are two
# panels of a sum.
ODD = {"heads": 4, "embed": 36, "n_inner": 300, "n_positions": 512}
# 40 prompts: around the few-query path (8 keys), vectors, tiles (64) and chunks (256) of attention.
LENGTHS = [
    *(1, 2, 3, 5, 7, 8, 9, 10, 15, 16, 17, 20, 24, 28, 31, 32, 33, 40, 48, 56, 60, 63, 64, 65, 66),
    *(79, 96, 100, 127, 128, 129, 150, 191, 200, 223, 255, 256, 257, 299, 300),
]


class Told(LogitsProcessor):
    """Makes ``generate`` choose given tokens ``[rows, steps]``, whatever the scores say."""

    def __init__(self, tokens: Tensor, prompt: int) -> None:
        self.tokens = tokens
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = self.tokens[:, input_ids.shape[1] - self.prompt, None]
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


def odd_model(dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    return gpt2(**{**ODD, **config}).to(dtype)


def ragged(lengths: Sequence[int], *, vocab: int = VOCAB, seed: int = 1) -> list[Tensor]:
    """Random prompts."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, vocab, (length,), generator=generator) for length in lengths]


def padded(prompts: Sequence[Tensor], *, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded on the left, with ``extra`` more pads than the longest prompt needs."""
    width = max(len(prompt) for prompt in prompts) + extra
    ids = torch.full((len(prompts), width), PAD)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return ids, mask


@torch.no_grad()
def run(
    model: Any,
    prompts: Sequence[Tensor],
    *,
    extra: int = 0,
    new_tokens: int = 4,
    tokens: Tensor | None = None,
    **options: Any,
) -> Any:
    """What ``generate`` returns for one batch; ``tokens`` are those it is to choose."""
    ids, mask = padded(prompts, extra=extra)
    if tokens is not None:
        options["logits_processor"] = LogitsProcessorList([Told(tokens, ids.shape[1])])
    return model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        **{"do_sample": False, **options},
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
    )


def logits_of(result: Any, row: int, copies: int = 1) -> Tensor:
    """Logits of every step, ``[steps, copies, vocab]``; a row has as many copies as beams."""
    rows = slice(row * copies, (row + 1) * copies)
    return torch.stack([logits[rows] for logits in result.logits])


def alone(model: Any, prompts: Sequence[Tensor], **options: Any) -> list[Any]:
    """Each prompt by itself."""
    return [run(model, [prompt], **options) for prompt in prompts]


def unequal(result: Any, expected: Sequence[Any], copies: int = 1) -> list[int]:
    """The rows that have other logits than alone, in one bit of one step at least."""
    return [
        row
        for row, single in enumerate(expected)
        if not same_bits(logits_of(result, row, copies), logits_of(single, 0, copies))
    ]


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


def compare(
    model: Any, lengths: Sequence[int], threads: Sequence[int], *, most: int = 40
) -> tuple[int, list[str]]:
    """All prompts alone with one thread, then in batches: orders, pads, sizes, threads.

    Args:
        model: a patched one.
        lengths: of the prompts, at least 10.
        threads: numbers of threads.
        most: rows of a batch.

    Returns:
        How many rows of batches were compared, and a line for each batch with unequal rows.
    """
    prompts = ragged(lengths, vocab=model.config.vocab_size)
    torch.set_num_threads(1)
    expected = alone(model, prompts)
    rows, lines = 0, []
    for count in threads:
        torch.set_num_threads(count)
        for order, extra in _batches(len(prompts), most):
            result = run(model, [prompts[row] for row in order], extra=extra)
            wrong = unequal(result, [expected[row] for row in order])
            rows += len(order)
            if wrong:
                lines.append(f"{len(wrong)} of {len(order)} rows, {count} threads, {extra} pads")
    return rows, lines


def _batches(prompts: int, most: int) -> list[tuple[list[int], int]]:
    """Which prompts, in this order, and how many pads more than needed."""
    every = list(range(prompts))
    shuffled = torch.randperm(prompts, generator=torch.Generator().manual_seed(2)).tolist()
    whole = [(every, 0), (every[::-1], 13)]
    cut = [(order[at : at + most], pads) for order, pads in whole for at in range(0, prompts, most)]
    return [*cut, (shuffled[:3], 1), (shuffled[3:10], 0), ([every[-1], every[5]], 70)]
