"""A prompt, then steps of one token whose inputs stay in the same memory."""

from __future__ import annotations

from typing import Any

import torch
from hf.models import positions_of, prompts
from torch import Tensor
from transformers import StaticCache

CAPACITY = 20
STEPS = 8


class Steps:
    """Greedy decoding of a left-padded batch on a static cache; the prompt has run."""

    def __init__(self, model: Any, device: torch.device | str = "cpu") -> None:
        ids, mask = (part.to(device) for part in prompts([5, 9, 3]))
        self.cache = StaticCache(config=model.config, max_cache_len=CAPACITY)
        self.mask = torch.zeros(len(ids), CAPACITY, dtype=torch.long, device=device)
        self.mask[:, : mask.shape[1]] = mask
        self.length = mask.shape[1]
        positions = positions_of(mask)
        with torch.no_grad():
            out = model(
                ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache
            )
        self.ids = out.logits[:, -1:].argmax(-1)
        self.positions = positions[:, -1:].clone()

    def inputs(self) -> dict[str, Any]:
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "position_ids": self.positions,
            "past_key_values": self.cache,
        }

    def make_room(self) -> None:
        """The slot of the next token becomes a real one."""
        self.mask[:, self.length] = 1
        self.positions += 1
        self.length += 1

    def take(self, logits: Tensor) -> Tensor:
        """The likeliest token is the next input."""
        self.ids.copy_(logits.argmax(-1))
        return logits.clone()

    def run(self, forward: Any) -> Tensor:
        """Logits ``[batch, steps, vocab]``."""
        found = []
        for _ in range(STEPS):
            self.make_room()
            with torch.no_grad():
                found.append(self.take(forward(**self.inputs()).logits))
        return torch.cat(found, dim=1)
