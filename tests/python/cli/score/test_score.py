"""``score``: the table, the file, and that both say what stock's loss says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import Ran, run_command

from masked_attn.cli.score.command import line_score

TEXTS = ("It will rain in the morning.", "My dog is very happy.", "W", "We eat", "grüße 🐕", "soup")
Score = Callable[..., Ran]


@pytest.fixture
def score(run_here: Callable[..., Ran], model_folder: Path, tmp_path: Path) -> Score:
    """``score`` of ``TEXTS``, or of another input, with the tiny model."""
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")

    def run(*words: str | Path, file: Path | None = None) -> Ran:
        model = ("--model", str(model_folder), "--batch-size", "2")
        return run_here(
            "score", "--input", str(file or tmp_path / "in.txt"), *model, *map(str, words)
        )

    return run


@pytest.fixture
def stock(model_folder: Path) -> Callable[[str], tuple[list[int], float | None]]:
    """Token ids of a text and the loss of plain transformers for it alone."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = GPT2LMHeadModel.from_pretrained(model_folder).eval()

    def loss(text: str) -> tuple[list[int], float | None]:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            value = float(model(ids, labels=ids).loss) if ids.shape[1] > 1 else None
        return ids[0].tolist(), value

    return loss


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("extra", [(), ("--stock",), ("--batch-size", "1"), ("--batch-size", "8")])
def test_the_file_says_what_the_loss_of_stock_says(
    score: Score,
    stock: Callable[[str], tuple[list[int], float | None]],
    tmp_path: Path,
    extra: tuple[str, ...],
) -> None:
    out = tmp_path / "out.jsonl"
    ran = score("--output", out, *extra)
    assert (ran.status, ran.stderr) == (0, "")
    lines = read(out)
    assert [line["prompt"] for line in lines] == list(TEXTS)
    total = count = 0.0
    for line in lines:
        ids, loss = stock(line["prompt"])
        found = line["score"]
        assert found["token_ids"] == ids
        assert found["tokens"] == len(ids) == len(found["log_probs"])
        assert found["log_probs"][0] is None
        if loss is None:
            assert (found["nll"], found["perplexity"]) == (None, None)
            continue
        assert found["nll"] == pytest.approx(loss, rel=1e-5)
        assert found["nll"] == pytest.approx(-sum(found["log_probs"][1:]) / (len(ids) - 1))
        assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
        total, count = total + loss * (len(ids) - 1), count + len(ids) - 1
    assert f"{total / count:.4f}" in ran.stdout.splitlines()[0]


def test_a_file_of_text_with_the_embedded_model_equals_the_loss_of_stock(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    from masked_attn.cli.model.loading import EMBEDDED_MODEL

    texts = ["It will rain in the morning.", "My dog is", "I want to eat a big bowl of rice."]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    ran = run_command("score", "--input", str(tmp_path / "in.txt"))
    assert (ran.status, ran.stderr) == (0, "")
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_MODEL)
    model = GPT2LMHeadModel.from_pretrained(EMBEDDED_MODEL).eval()
    for text, row in zip(texts, ran.stdout.splitlines()[1:], strict=False):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            loss = float(model(ids, labels=ids).loss)
        _, tokens, nll, perplexity = row.split()
        assert int(tokens) == ids.shape[1]
        assert float(nll) == pytest.approx(loss, abs=1e-4)
        assert float(perplexity) == pytest.approx(math.exp(loss), rel=1e-3)


def test_the_table(score: Score) -> None:
    ran = score()
    header, *rows = ran.stdout.splitlines()
    assert header.split() == ["line", "tokens", "nats/token", "perplexity"]
    assert [row.split()[0] for row in rows[:7]] == [*"123456", "total"]
    assert rows[2].split() == ["3", "1", "-", "-"]
    assert rows[7].startswith("6 lines; the first token of a line has no score")
    assert rows[8].startswith("attention: masked_attn, packed_attention in layers 0-1")
    assert len({len(row) for row in [header, *rows[:7]]}) == 1


def test_broken_lines_and_lines_that_are_too_long(score: Score, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(f'{{"text": "My dog"}}\n[]\n{{"text": "{"a " * 90}"}}\n{{"text": "We"}}\n')
    ran = score("--prompt-field", "text", file=file)
    assert ran.status == 1
    rows = [row.split() for row in ran.stdout.splitlines()[1:5]]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1][1:] == rows[2][1:] == ["-", "-", "-"]
    broken, long, count = ran.stderr.splitlines()
    assert "in.jsonl line 2: not a JSON object" in broken
    assert "in.jsonl line 3: the prompt is too long: " in long and "limit is 48" in long
    assert count == "masked_attn: 2 of 4 lines have an error"


def test_resume_gives_the_same_file_and_the_same_total(score: Score, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    total = score("--output", whole).stdout.splitlines()[0]
    data = whole.read_bytes()
    for size in (0, len(data) // 3, len(data) // 2, len(data)):
        cut.write_bytes(data[:size])
        assert score("--output", cut, "--resume").stdout.splitlines()[0] == total
        assert cut.read_bytes() == data


def test_an_output_without_scores_is_refused(score: Score, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text(json.dumps({"prompt": TEXTS[0], "score": 1}) + "\n")
    score("--output", out, "--resume").assert_refused("does not hold scores")


def test_a_model_that_is_not_finite_is_an_error_of_the_line(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "masked_attn.cli.score.command.score_batch",
        lambda model, ids, mask: [[math.nan] * (len(row) - 1) for row in mask],
    )
    ran = score("--output", tmp_path / "out")
    assert ran.status == 1
    assert "error" in read(tmp_path / "out")[0]


def test_a_perplexity_beyond_a_float_is_none() -> None:
    assert line_score([1, 2], ["a", "b"], [-1000.0])["perplexity"] is None
    assert line_score([1], ["a"], [])["perplexity"] is None
