"""``SentenceTransformer.encode`` as it comes (it sorts by length), with and without the patch."""

from __future__ import annotations

import tempfile
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import masked_attn
from common.agreement import agreement
from common.gpt2 import STOCK
from common.report import COMPARISON, Chart, Report
from common.timing import Contender, take_turns
from common.trial import OURS
from masked_attn.cli.bench.systems import copy_of

from .comparisons import add_rows

__all__ = ["measure_sentences"]

MORE = 4  # times the sentences, so that its batches differ in length
WORDS = 200
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")


def measure_sentences(report: Report, name: str, model: Any, lengths: Tensor) -> None:
    """A table, or a line where sentence-transformers is not installed.

    Args:
        report: what the script has found.
        name: of the model.
        model: an encoder of transformers, not patched.
        lengths: tokens of each sentence, ``[sentences]``.
    """
    if find_spec("sentence_transformers") is None or find_spec("tokenizers") is None:
        report.note(f"{name}: sentence-transformers is left out: not installed")
        return
    stock = _embedder(model)
    embedders = {STOCK: stock, OURS: masked_attn.patch(copy_of(stock))}
    table = report.table(f"SentenceTransformer.encode, {name}", COMPARISON, Chart())
    # None: the batch size that `encode` has by itself, 32.
    for count, batch_size in ((1, None), (1, 8), (MORE, None)):
        texts = _texts(lengths.repeat(count))
        size = {} if batch_size is None else {"batch_size": batch_size}
        contenders = {
            system: Contender(partial(_encode, embedder, texts, size))
            for system, embedder in embedders.items()
        }
        case = f"{len(texts)} sentences by {batch_size or 'default'}"
        add_rows(table, case, take_turns(contenders, report.options.repeats, agreement()))


def _encode(embedder: Any, texts: list[str], size: dict[str, int]) -> Tensor:
    """Mean of the hidden states of each text, ``[texts, width]``."""
    found: Tensor = embedder.encode(texts, convert_to_tensor=True, show_progress_bar=False, **size)
    return found


def _embedder(model: Any) -> Any:
    """The model behind a tokenizer, as sentence-transformers loads it; the weights are copied."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        _tokenizer().save_pretrained(folder)
        return SentenceTransformer(folder, device="cpu").eval()


def _tokenizer() -> Any:
    """One word is one token; a text is put between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"w{number}" for number in range(WORDS))]
    made = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(names)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, names.index(word)) for word in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=512,
        **{f"{word[1:-1].lower()}_token": word for word in SPECIAL},
    )


def _texts(lengths: Tensor) -> list[str]:
    """A text for each length; [CLS] and [SEP] are two of its tokens."""
    generator = torch.Generator().manual_seed(0)
    words = [torch.randint(WORDS, (n - 2,), generator=generator) for n in lengths.tolist()]
    return [" ".join(f"w{word}" for word in text.tolist()) for text in words]
