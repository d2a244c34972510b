"""CTranslate2, with its own converter and its own loop in C++.

It takes no mask: of a ragged batch it forwards the first tokens of all rows together, as many as
the shortest prompt has, and replays the rest token by token. Settings: ``rows`` in one batch (0
means all), ``workers`` that run batches at the same time and share the threads.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import ctranslate2

from .serve import Rows, Task, main, versions

Batch = list[list[str]]


def convert(task: Task) -> None:
    """Convert the checkpoint; it needs a tokenizer, so token ``n`` gets the name ``"n"``."""
    source = Path(task.converted + "-source")
    shutil.copytree(task.checkpoint, source)
    _write_tokenizer(source, json.loads((source / "config.json").read_text())["vocab_size"])
    ctranslate2.converters.TransformersConverter(str(source)).convert(task.converted)
    shutil.rmtree(source)


def _write_tokenizer(folder: Path, size: int) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    names = {str(number): number for number in range(size)}
    special = str(size - 1)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(names, unk_token=special)),
        unk_token=special,
        bos_token=special,
        eos_token=special,
    ).save_pretrained(folder)


class CTranslate2:
    def __init__(self, task: Task) -> None:
        workers = task.settings["workers"]
        self.rows = task.settings["rows"]
        self.generator = ctranslate2.Generator(
            task.converted,
            device="cpu",
            compute_type=task.dtype,
            inter_threads=workers,
            intra_threads=max(1, task.threads // workers),
        )

    def describe(self) -> dict[str, str]:
        mkl = os.environ.get("CT2_USE_MKL", "as the CPU's maker says")
        return {**versions("ctranslate2", "transformers"), "MKL": mkl}

    def prepare(self, prompts: Rows, longest: int) -> Batch:
        return [[str(token) for token in row] for row in prompts]

    def generate(self, batch: Batch, new_tokens: int) -> Rows:
        results = self.generator.generate_batch(
            batch,
            max_batch_size=self.rows,
            max_length=new_tokens,
            end_token=[],
            beam_size=1,
            include_prompt_in_result=False,
        )
        return [list(result.sequences_ids[0]) for result in results]


if __name__ == "__main__":
    main(CTranslate2, convert)
