"""A tiny random GPT-2 with a tokenizer of its own, so that these tests need no other files."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from cli_process import Ran

from masked_attn.cli import main

CONTEXT = 48
TEXT = (
    "It will rain in the morning. I want to eat a big bowl of soup. My dog is very happy.",
    "The rain fell on the house and the dog slept. We will eat in the big house.",
)


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """The command line without the seconds of a new process."""

    def run(*words: str) -> Ran:
        capfd.readouterr()
        try:
            status = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capfd.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved GPT-2 of two layers and its tokenizer. Do not write into it."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        TEXT, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False
    )
    bpe.save(str(folder / "bpe.json"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "bpe.json"), eos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.5,  # so that a row holds many different tokens
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model_copy(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))
