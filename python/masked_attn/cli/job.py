"""What a run of ``generate`` needs, checked, and how its completions are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from masked_attn.cli.decoding import Decoded, batches_of, decode_batch, pad_id_of
from masked_attn.cli.prompts import Prompt

__all__ = ["Engine", "Job", "format_completion"]


@dataclass(frozen=True)
class Engine:
    """A model, its tokenizer, and the options of ``generate``."""

    model: Any
    tokenizer: Any
    options: dict[str, Any]

    @property
    def returned(self) -> int:
        """Number of completions of each prompt."""
        return int(self.options["num_return_sequences"])

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without padding."""
        return list(self.tokenizer(texts)["input_ids"])

    def decode(self, batch: Sequence[list[int]]) -> Decoded:
        """Continue one batch with the model as it is now, patched or not."""
        pad_id = pad_id_of(self.tokenizer)
        return decode_batch(self.model, batch, pad_id=pad_id, options=self.options)

    def text(self, token_ids: list[int], *, keep_special: bool = False) -> str:
        """The text of token ids, unedited except that an end token is left out."""
        text: str = self.tokenizer.decode(
            token_ids, skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False
        )
        return text


@dataclass(frozen=True)
class Job(Engine):
    """Prompts that are known before the run, with their token ids."""

    prompts: list[Prompt]
    rows: list[list[int]]
    batch_size: int

    @property
    def batches(self) -> list[list[list[int]]]:
        """The rows in batches, in order."""
        return list(batches_of(self.rows, self.batch_size))

    def show(self, tokens: Sequence[list[int]], first_row: int = 0) -> str:
        """Completions with their numbers.

        Args:
            tokens: new tokens of each returned sequence, ``returned`` of them for each prompt.
            first_row: number of the prompt, from 0, that the first of them continues.
        """
        lines = []
        for index, new in enumerate(tokens):
            row, choice = divmod(index, self.returned)
            row += first_row
            label = f"[{row + 1}]" if self.returned == 1 else f"[{row + 1}.{choice + 1}]"
            lines.append(format_completion(label, self.text(self.rows[row] + new)))
        return "\n".join(lines)


def format_completion(label: str, text: str) -> str:
    """A completion behind its label; further lines of the text stand under its first.

    Example:
        >>> print(format_completion("[1]", "a\\nb"))
        [1] a
            b
    """
    return f"{label} " + text.replace("\n", "\n" + " " * (len(label) + 1))
