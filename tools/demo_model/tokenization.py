"""Trains the byte-level BPE tokenizer, in the form that ``AutoTokenizer`` loads."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["END_OF_TEXT", "encode_documents", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(
    documents: Iterable[str], vocab_size: int, context: int
) -> PreTrainedTokenizerFast:
    """Learn the merges from ``documents``.

    Args:
        documents: the training text.
        vocab_size: number of tokens; 256 bytes and the end-of-text token (id 0) are among them.
        context: the model's number of positions, written down as ``model_max_length``.

    Returns:
        A tokenizer that pads on the left with the end-of-text token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def encode_documents(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> list[list[int]]:
    """Token ids of each document, each closed by the end-of-text token."""
    end = tokenizer.eos_token_id
    rows: list[list[int]] = []
    for start in range(0, len(documents), 1000):
        encoded = tokenizer(documents[start : start + 1000], verbose=False)["input_ids"]
        rows += [[*ids, end] for ids in encoded]
    return rows
