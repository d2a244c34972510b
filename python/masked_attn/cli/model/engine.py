"""What a run needs to turn texts into token ids, continue them, and turn them into texts again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from masked_attn.cli.model.decoding import Decoded, decode_batch, pad_id_of

__all__ = ["Engine"]


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
