"""``generate`` where all is well: what is printed, and that it is what transformers gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import Ran, run_command

PROMPTS = ("It will rain in the", "I want to eat a big bowl of", "My dog is")
SPEED = re.compile(r"\n\n(\d+) new tokens in \d+\.\d\d s: \d+ tokens/s\nattention: (.+)\n$")


@pytest.fixture
def expected(model_folder: Path) -> Callable[..., list[str]]:
    """Completions of each prompt alone, by plain transformers, as the command line shows them."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = GPT2LMHeadModel.from_pretrained(model_folder).eval()

    def complete(prompts: tuple[str, ...], **options: Any) -> list[str]:
        texts = []
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt")
            for row in model.generate(**ids, pad_token_id=tokenizer.eos_token_id, **options):
                texts.append(tokenizer.decode(row, skip_special_tokens=True))
        return texts

    return complete


def shown(completions: list[str]) -> str:
    """Numbered from 1, as the command line prints them."""
    return "\n".join(labelled(f"[{number}] ", text) for number, text in enumerate(completions, 1))


def labelled(label: str, text: str) -> str:
    """Further lines of a text stand under its first."""
    return label + text.replace("\n", "\n" + " " * len(label))


def test_three_prompts_with_the_embedded_model() -> None:
    ran = run_command("generate", *PROMPTS, "--max-new-tokens", "6")
    assert (ran.status, ran.stderr) == (0, "")
    for number, prompt in enumerate(PROMPTS, 1):
        assert f"[{number}] {prompt} " in ran.stdout
    found = SPEED.search(ran.stdout)
    assert found is not None
    assert 3 <= int(found[1]) <= 18
    prompt, step = found[2].split(", steps ")
    assert prompt.startswith("masked_attn, prompt packed_attention in layers 0-")
    assert prompt.endswith(" without pads")
    assert step.startswith("cached_attention in layers 0-")


def test_each_completion_equals_its_prompt_alone_in_stock_transformers(
    run_here: Callable[..., Ran], model_folder: Path, expected: Callable[..., list[str]]
) -> None:
    ran = run_here("generate", *PROMPTS, "--max-new-tokens", "12", "--model", str(model_folder))
    assert ran.status == 0
    alone = expected(PROMPTS, max_new_tokens=12, do_sample=False)
    assert ran.stdout.startswith(shown(alone) + "\n\n")


def test_stock_runs_unpatched(run_here: Callable[..., Ran], model_folder: Path) -> None:
    words = ("generate", *PROMPTS, "--max-new-tokens", "12", "--model", str(model_folder))
    ours, stock = run_here(*words), run_here(*words, "--stock")
    assert "attention: stock transformers, sdpa;" in stock.stdout
    assert ours.stdout.split("\n\n")[0] == stock.stdout.split("\n\n")[0]


def test_a_file_in_batches_keeps_its_order(
    model_folder: Path, tmp_path: Path, expected: Callable[..., list[str]]
) -> None:
    lines = ("My dog is", "It will rain in the big house and", "We", "I want to eat", "The rain")
    file = tmp_path / "prompts.txt"
    file.write_bytes("\r\n".join(lines).encode())
    words = ("generate", "--input", str(file), "--batch-size", "2", "--max-new-tokens", "8")
    ran = run_command(*words, "--model", str(model_folder), "--threads", "1")
    assert (ran.status, ran.stderr) == (0, ""), "no progress bar without a terminal"
    assert ran.stdout.startswith(shown(expected(lines, max_new_tokens=8, do_sample=False)))
    assert ran.stdout.endswith("threads: 1\n")


def test_a_seed_repeats_a_sample(run_here: Callable[..., Ran], model_folder: Path) -> None:
    words = ("generate", *PROMPTS, "--do-sample", "--top-p", "0.9", "--model", str(model_folder))
    one, again, other = (run_here(*words, "--seed", seed) for seed in ("5", "5", "6"))
    texts = [ran.stdout.split("\n\n")[0] for ran in (one, again, other)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_beams_give_several_completions_of_each_prompt(
    run_here: Callable[..., Ran], model_folder: Path, expected: Callable[..., list[str]]
) -> None:
    words = ("--num-beams", "3", "--num-return-sequences", "2", "--max-new-tokens", "8")
    ran = run_here("generate", *PROMPTS, *words, "--model", str(model_folder))
    alone = expected(
        PROMPTS, num_beams=3, num_return_sequences=2, max_new_tokens=8, do_sample=False
    )
    for index, text in enumerate(alone):
        assert labelled(f"[{index // 2 + 1}.{index % 2 + 1}] ", text) in ran.stdout


def test_penalties_reach_the_model(
    run_here: Callable[..., Ran], model_folder: Path, expected: Callable[..., list[str]]
) -> None:
    words = ("--repetition-penalty", "3", "--no-repeat-ngram-size", "2", "--max-new-tokens", "20")
    ran = run_here("generate", PROMPTS[0], *words, "--model", str(model_folder))
    options = {"repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "max_new_tokens": 20}
    alone = expected(PROMPTS[:1], do_sample=False, **options)
    assert ran.stdout.startswith(shown(alone))
    assert alone != expected(PROMPTS[:1], do_sample=False, max_new_tokens=20)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_every_dtype(run_here: Callable[..., Ran], model_folder: Path, dtype: str) -> None:
    ran = run_here("generate", *PROMPTS, "--dtype", dtype, "--model", str(model_folder))
    assert ran.status == 0, ran.stderr
    assert "masked_attn, " in ran.stdout


def test_an_end_token_ends_its_row_only(
    run_here: Callable[..., Ran], model_copy: Path, expected: Callable[..., list[str]]
) -> None:
    """The third new token of one prompt becomes an end token: its row is cut, the count is too."""
    from transformers import AutoTokenizer, GenerationConfig, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    model = GPT2LMHeadModel.from_pretrained(model_copy)
    rows = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        rows.append(model.generate(**ids, max_new_tokens=8, pad_token_id=0)[0, -8:].tolist())
    end = rows[1][2]
    counts = [row.index(end) + 1 if end in row else len(row) for row in rows]
    GenerationConfig(eos_token_id=end).save_pretrained(model_copy)
    ran = run_here("generate", *PROMPTS, "--max-new-tokens", "8", "--model", str(model_copy))
    found = SPEED.search(ran.stdout)
    assert found is not None
    assert counts[1] < 8
    assert int(found[1]) == sum(counts)


def test_threads_are_set(run_here: Callable[..., Ran], model_folder: Path) -> None:
    ran = run_here("generate", "a", "--threads", "2", "--model", str(model_folder))
    assert ran.stdout.endswith("threads: 2\n")
    assert torch.get_num_threads() == 2
