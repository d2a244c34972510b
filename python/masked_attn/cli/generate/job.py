"""What a run of ``generate`` needs, checked, and how its completions are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masked_attn.cli.generate.prompts import Prompt
from masked_attn.cli.model.decoding import batches_of
from masked_attn.cli.model.engine import Engine

__all__ = ["Job", "format_completion"]


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
