"""The command line on decoders of other families than GPT-2."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_process import Ran

PROMPTS = ("It will rain in the", "I want to eat a big bowl of", "My dog is")
CONTEXT = 48


@pytest.fixture(params=["Llama", "Qwen2", "Qwen3", "Mistral", "SmolLM3", "GPTNeoX", "OPT"])
def folder(request: pytest.FixtureRequest, model_folder: Path, tmp_path: Path) -> Path:
    """A saved decoder of two layers beside the tokenizer of the other tests."""
    import transformers

    made = tmp_path / "model"
    ours = ("model.safetensors", "config.json", "generation_config.json")
    shutil.copytree(model_folder, made, ignore=shutil.ignore_patterns(*ours))
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    torch.manual_seed(3)
    getattr(transformers, f"{request.param}ForCausalLM")(config).save_pretrained(made)
    return made


def test_generate_gives_what_transformers_gives(run_here: Callable[..., Ran], folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ran = run_here("generate", *PROMPTS, "--model", str(folder), "--max-new-tokens", "6")
    assert ran.status == 0, ran
    assert (
        "prompt packed_attention in layers 0-1 without pads, steps cached_attention" in ran.stdout
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for number, prompt in enumerate(PROMPTS, 1):
        ids = tokenizer(prompt, return_tensors="pt")
        ids.pop("token_type_ids", None)
        row = model.generate(**ids, max_new_tokens=6, pad_token_id=tokenizer.eos_token_id)[0]
        text = tokenizer.decode(row, skip_special_tokens=True).replace("\n", "\n" + " " * 4)
        assert f"[{number}] {text}" in ran.stdout


def test_score_and_compare_run(run_here: Callable[..., Ran], folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text(
        '{"prompt": "It will rain in the morning."}\n{"prompt": "My dog is very happy."}\n'
    )
    words = ("--input", str(lines), "--output", str(tmp_path / "out.jsonl"))
    scored = run_here("score", *words, "--model", str(folder))
    assert scored.status == 0, scored
    compared = run_here("generate", *PROMPTS, "--model", str(folder), "--compare")
    assert compared.status == 0, compared


def test_a_prompt_longer_than_the_positions_is_refused(
    run_here: Callable[..., Ran], folder: Path
) -> None:
    ran = run_here("generate", "rain " * 60, "--model", str(folder), "--max-new-tokens", "6")
    ran.assert_refused("48")
