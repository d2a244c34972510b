"""A program that was written for flash-attn runs when only its imports are changed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

PROGRAM = Path(__file__).parents[3] / "examples" / "flash_attn_program.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("flash_attn_program", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_logits(program, model, tokens):
    """One text alone, with torch's own attention."""
    x = model.tokens(tokens) + model.positions(torch.arange(len(tokens)))
    groups = program.HEADS // program.HEADS_K
    for layer in model.layers:
        q, k, v = (each.transpose(0, 1)[None] for each in layer.split(x))
        k, v = (each.repeat_interleave(groups, dim=1) for each in (k, v))
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + layer.out(out[0].transpose(0, 1).reshape(len(tokens), -1))
    return model.head(x)


def test_only_its_imports_name_masked_attn():
    lines = PROGRAM.read_text().split('"""', 2)[2].splitlines()
    named = [line for line in lines if "masked_attn" in line]
    assert len(named) == 2 and all(line.startswith("from masked_attn.flash") for line in named)


@torch.no_grad()
def test_the_loss_of_ragged_batches(program):
    model = program.Model().double()
    texts = program.random_texts([9, 30, 4, 1], "cpu")
    ours = program.loss_of(model, texts)
    losses = [
        cross_entropy(plain_logits(program, model, text)[:-1], text[1:], reduction="none")
        for text in texts
    ]
    torch.testing.assert_close(ours, torch.cat(losses).mean().float())


@torch.no_grad()
def test_tokens_of_a_decode_loop(program):
    model = program.Model().double()
    prompts = program.random_texts([5, 12, 1], "cpu")
    for prompt, ours in zip(prompts, program.generate(model, prompts, 9), strict=True):
        text = prompt
        for _ in range(9):
            text = torch.cat([text, plain_logits(program, model, text)[-1:].argmax(-1)])
        assert ours == text[len(prompt) :].tolist()


def test_it_runs():
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("loss") == 2 and done.stdout.count("generated") == 3
