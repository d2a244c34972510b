"""Trains the tokenizer and the model: ``python -m tools.demo_model.train`` from the project root.

Needs no network: ``corpus.py`` writes the text. ``docs/demo_model.md`` says how long it takes.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from .corpus import TRAIN_DOCUMENTS, TRAIN_SEED, make_documents
from .tokenization import encode_documents, train_tokenizer

__all__ = ["MODEL_FOLDER", "RowPacker", "make_config", "train"]

MODEL_FOLDER = Path(__file__).parents[2] / "python" / "masked_attn" / "demo_model"
CONTEXT = 1024
VOCAB_SIZE = 2048
SHORT_ROW = 256
LONG_ROW_EVERY = 4  # such a step reads rows of the full context: all positions are learned


def make_config(vocab_size: int, end_of_text: int) -> GPT2Config:
    """The shape of the model: 6 layers, 4 heads of 32, tied output layer."""
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=CONTEXT,
        n_embd=128,
        n_layer=6,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )


class RowPacker:
    """Endless rows of shuffled documents, one after the other.

    Each row begins with the first token of a document, because that is how prompts begin.
    """

    def __init__(self, documents: list[list[int]], rng: random.Random) -> None:
        self.documents = documents
        self.rng = rng
        self.order: list[int] = []

    def row(self, length: int) -> list[int]:
        """The next row of ``length`` token ids."""
        row: list[int] = []
        while len(row) < length:
            if not self.order:
                self.order = self.rng.sample(range(len(self.documents)), len(self.documents))
            row += self.documents[self.order.pop()]
        return row[:length]


def _batches(documents: list[list[int]], tokens_per_step: int, seed: int) -> Iterator[Tensor]:
    packer = RowPacker(documents, random.Random(seed))
    step = 0
    while True:
        step += 1
        length = CONTEXT if step % LONG_ROW_EVERY == 0 else SHORT_ROW
        yield torch.tensor([packer.row(length) for _ in range(tokens_per_step // length)])


def _learning_rate(step: int, steps: int, peak: float) -> float:
    warmup = max(1, min(100, steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


def _optimizers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, biases and norms."""
    blocks = [p for p in model.transformer.h.parameters() if p.dim() == 2]
    in_blocks = {id(p) for p in blocks}
    others = [p for p in model.parameters() if id(p) not in in_blocks]
    return [
        torch.optim.Muon(blocks, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0),
    ]


def train(
    documents: list[list[int]], config: GPT2Config, steps: int, tokens_per_step: int, peak: float
) -> GPT2LMHeadModel:
    """Fit a new model to the documents and report the loss now and then."""
    torch.manual_seed(TRAIN_SEED)
    model = GPT2LMHeadModel(config).train()
    optimizers = _optimizers(model)
    batches = _batches(documents, tokens_per_step, TRAIN_SEED)
    start, running = time.time(), 0.0
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(step, steps, peak)
        ids = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        flat = logits[:, :-1].float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(flat, ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        running += loss.item()
        if (step + 1) % 50 == 0:
            seconds = time.time() - start
            print(f"step {step + 1}/{steps}: loss {running / 50:.3f}, {seconds:.0f} s", flush=True)
            running = 0.0
    return model.eval()


def _save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    # The pad token is set only here: rows of training text hold it as an ordinary end of text.
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--documents", type=int, default=TRAIN_DOCUMENTS)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--tokens-per-step", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    start = time.time()
    texts = make_documents(arguments.documents, TRAIN_SEED)
    tokenizer = train_tokenizer(texts[:20_000], VOCAB_SIZE, CONTEXT)
    documents = encode_documents(tokenizer, texts)
    tokens = sum(len(document) for document in documents)
    print(f"{len(texts)} documents, {tokens} tokens, {time.time() - start:.0f} s", flush=True)
    config = make_config(len(tokenizer), tokenizer.eos_token_id)
    model = train(
        documents, config, arguments.steps, arguments.tokens_per_step, arguments.learning_rate
    )
    _save(model, tokenizer, arguments.output)
    print(f"saved to {arguments.output} after {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
