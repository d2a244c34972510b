"""A tokenizer of a hundred words, built here, and sentences for it."""

from __future__ import annotations

from typing import Any

import torch
from hf.families.models import FIRST_WORD, Family
from hf.models import VOCAB

LENGTHS = (3, 17, 1, 9, 30, 2, 12, 5, 24, 7)


def tokenizer(family: Family, *, side: str = "right") -> Any:
    """One word is one token; a text is put between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    names.insert(family.settings["pad_token_id"], "[PAD]")
    vocabulary = {name: at for at, name in enumerate(names)}
    vocabulary |= {f"w{at}": at for at in range(FIRST_WORD, VOCAB)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    takes_kinds = family.settings.get("type_vocab_size", 0) > 1
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        unk_token="[UNK]",
        padding_side=side,
        model_max_length=256,
        model_input_names=[
            "input_ids",
            *(["token_type_ids"] if takes_kinds else []),
            "attention_mask",
        ],
    )


def sentences(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    words = [torch.randint(FIRST_WORD, VOCAB, (n,), generator=generator) for n in lengths]
    return [" ".join(f"w{word}" for word in sentence.tolist()) for sentence in words]
