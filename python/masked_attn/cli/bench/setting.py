"""What all systems of a run have in common: the model, the prompts, the device, the threads.

It travels to the processes that measure memory, so it holds only what JSON can hold.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from masked_attn.cli.bench.workload import Workload
from masked_attn.cli.errors import BadInput
from masked_attn.cli.model.loading import (
    Source,
    find_model,
    load_config,
    load_model,
    make_config,
    random_model,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEMO", "SIZES", "Setting", "size_named"]

DEMO = "demo"
SIZES: dict[str, dict[str, int]] = {
    "124M": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "355M": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "774M": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "1558M": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}
_ALIASES = {"small": "124M", "medium": "355M", "large": "774M", "xl": "1558M", "1.5b": "1558M"}


def size_named(text: str) -> str:
    """The name in ``SIZES`` that a user means; other words are returned as they are.

    Example:
        >>> size_named("medium")
        '355M'
    """
    return _ALIASES.get(text.lower(), text.upper() if text.upper() in SIZES else text)


@dataclass(frozen=True)
class Setting:
    """One run without its systems.

    Args:
        size: a name of ``SIZES``, or ``"demo"``; not used when ``model`` is given.
        model: directory or hub name.
        dtype: of weights and activations.
        device: ``"cpu"`` or ``"cuda"``.
        threads: of torch on the CPU.
        lengths: tokens of each prompt.
        new_tokens: of each row.
    """

    size: str
    model: str | None
    dtype: str
    device: str
    threads: int
    lengths: tuple[int, ...]
    new_tokens: int

    @property
    def work(self) -> Workload:
        """The prompts."""
        return Workload("", self.lengths, self.new_tokens)

    @property
    def is_random(self) -> bool:
        """Whether the weights are random."""
        return self.model is None and self.size in SIZES

    @property
    def described(self) -> str:
        """The model and its dtype in one phrase."""
        if self.model is not None:
            name = self.model
        elif self.size == DEMO:
            name = "GPT-2, the embedded demo model"
        else:
            name = f"GPT-2 {self.size}, random weights"
        return f"{name}, {self.dtype}"

    def check_fit(self) -> None:
        """Refuse prompts that the model has no positions for, before its weights load.

        Raises:
            BadInput: they do not fit, the model cannot be found, or transformers is missing.
        """
        positions = self._config().max_position_embeddings
        longest = max(self.lengths)
        if longest + self.new_tokens > positions:
            raise BadInput(
                f"{longest} tokens and {self.new_tokens} new are {longest + self.new_tokens}, "
                f"the limit of this model is {positions}: give shorter --lengths or --new-tokens"
            )

    def load(self) -> Any:
        """The stock model, with a greedy ``generate`` that no token ends; sets the threads."""
        import torch  # the words of the command line are read without it

        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        if self.is_random:
            model = random_model(self._config(), self.dtype)
        else:
            model = load_model(self._source(), self.dtype)
        model.generation_config = type(model.generation_config)(pad_token_id=0)
        return model.to(self.device)

    def batch(self, model: Any) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, left-padded, on the device."""
        return self.work.batch(model.config.vocab_size, self.device)

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    def _config(self) -> Any:
        return make_config(SIZES[self.size]) if self.is_random else load_config(self._source())

    def _source(self) -> Source:
        return find_model(self.model)

    @staticmethod
    def from_json(text: str) -> Setting:
        """What ``to_json`` wrote."""
        found = json.loads(text)
        return Setting(**{**found, "lengths": tuple(found["lengths"])})
