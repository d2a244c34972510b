"""Held-out loss beside a bigram baseline, and the completions of prompts nobody trained on.

``python -m tools.demo_model.evaluate`` writes the result into ``docs/demo_model.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from .bigram import Bigram
from .corpus import (
    HELD_OUT_SEED,
    TRAIN_DOCUMENTS,
    TRAIN_SEED,
    make_documents,
)
from .prompts import DEMO_PROMPTS, OTHER_PROMPTS
from .tokenization import encode_documents
from .train import MODEL_FOLDER

__all__ = ["Score", "complete", "load", "model_nats", "score"]

REPORT = Path(__file__).parents[2] / "docs" / "demo_model.md"
BEGIN, END = "<!-- written by evaluate.py: begin -->", "<!-- written by evaluate.py: end -->"


@dataclass(frozen=True)
class Score:
    """Mean loss over held-out text."""

    per_token: float
    per_byte: float
    tokens: int
    bytes: int


def load(folder: Path) -> tuple[PreTrainedModel, Tokenizer]:
    """The model and its tokenizer, by plain ``from_pretrained``."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    return model, AutoTokenizer.from_pretrained(folder)


def model_nats(model: PreTrainedModel, ids: list[int]) -> float:
    """Minus the model's log-probability of ``ids[1:]``."""
    ids = ids[: model.config.n_positions]
    row = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))


def score(nats: Callable[[list[int]], float], tokenizer: Tokenizer, texts: list[str]) -> Score:
    """Mean loss of ``nats`` over all tokens of ``texts`` but the first of each text.

    The end-of-text token is scored too; it counts as a token of no bytes.
    """
    rows = encode_documents(tokenizer, texts)
    total = sum(nats(ids) for ids in rows)
    tokens = sum(len(ids) - 1 for ids in rows)
    size = sum(
        len(text.encode()) - len(tokenizer.decode(ids[:1]).encode())
        for text, ids in zip(texts, rows, strict=True)
    )
    return Score(total / tokens, total / size, tokens, size)


def complete(
    model: PreTrainedModel, tokenizer: Tokenizer, prompts: list[str], new_tokens: int
) -> list[str]:
    """Greedy continuation of each prompt, in one left-padded batch, without the prompt."""
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    ids = model.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
    new = ids[:, batch["input_ids"].shape[1] :]
    return tokenizer.batch_decode(new, skip_special_tokens=True)


def _loss_table(model: PreTrainedModel, tokenizer: Tokenizer, count: int) -> str:
    training = make_documents(TRAIN_DOCUMENTS, TRAIN_SEED)
    paragraphs = {part for document in training for part in document.split("\n")}
    fresh = make_documents(count, HELD_OUT_SEED)
    held_out = [d for d in fresh if not any(part in paragraphs for part in d.split("\n"))]
    bigram = Bigram(encode_documents(tokenizer, training), len(tokenizer))
    scores = {
        "embedded model": score(lambda ids: model_nats(model, ids), tokenizer, held_out),
        "bigram": score(bigram.nats, tokenizer, held_out),
    }
    first = scores["bigram"]
    lines = [
        f"{len(held_out)} held-out documents, {first.tokens} tokens, {first.bytes} bytes "
        f"({len(fresh) - len(held_out)} of {len(fresh)} left out because one of their paragraphs "
        "occurs word for word in the training text).",
        "",
        "| | nats per token | nats per byte | perplexity per token |",
        "|---|---|---|---|",
    ]
    for name, value in scores.items():
        perplexity = torch.tensor(value.per_token).exp().item()
        lines.append(
            f"| {name} | {value.per_token:.3f} | {value.per_byte:.3f} | {perplexity:.1f} |"
        )
    return "\n".join(lines)


def _completion_list(model: PreTrainedModel, tokenizer: Tokenizer, prompts: list[str]) -> str:
    lines = []
    for prompt, text in zip(prompts, complete(model, tokenizer, prompts, 40), strict=True):
        lines.append("- **" + prompt + "**" + text.replace("\n", " / "))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--print-only", action="store_true", help="leave the page in docs alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model, tokenizer = load(arguments.model)
    parts = [
        "## Held-out loss",
        _loss_table(model, tokenizer, arguments.documents),
        "## The three prompts of the demo",
        _completion_list(model, tokenizer, DEMO_PROMPTS),
        "## Twenty other prompts",
        _completion_list(model, tokenizer, OTHER_PROMPTS),
    ]
    report = "\n\n".join(parts)
    print(report)
    if not arguments.print_only:
        page = REPORT.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        REPORT.write_text(f"{before}{BEGIN}\n\n{report}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
