"""A process of ``python_step.py``: steps of models so small that they take the time of Python.

It imports nothing from its folder: which ``masked_attn`` it has, an older one perhaps, is told by
PYTHONPATH. Requests and answers are lines of JSON.

    step_worker.py (stock | ours) STEPS
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import torch
import transformers
from torch import Tensor

import masked_attn

ROWS, HELD = 2, 8  # prompts, and tokens of the longer one; the other has half of them
VOCABULARY = 64
COMMON = {
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "llama": (
        "Llama",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
        },
    ),
}
HEADS = {"GPT2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM"}


class Steps:
    """A model of one family, and what its steps are given."""

    def __init__(self, family: str, ours: bool, steps: int) -> None:
        prefix, sizes = CLASSES[family]
        torch.manual_seed(0)
        config = getattr(transformers, f"{prefix}Config")(**COMMON, **sizes)
        self.model = getattr(transformers, HEADS[prefix])(config).eval()
        self.model.set_attn_implementation("sdpa")
        self.ours, self.steps = ours, steps
        if ours:
            masked_attn.patch(self.model)
        self.mask = torch.ones(ROWS, HELD + steps, dtype=torch.long)
        self.mask[0, : HELD // 2] = 0
        self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.ids = torch.randint(1, VOCABULARY, self.mask.shape)
        taken = inspect.signature(self.model.forward).parameters
        self.cache_name = "past_key_values" if "past_key_values" in taken else "cache"
        self.cache: Any = None

    def prepare(self) -> None:
        """A new cache that holds the prompts."""
        config = self.model.config
        new = masked_attn.KVCache() if self.ours else transformers.DynamicCache(config=config)
        self.cache = new
        self._forward(0, HELD)

    def forward(self) -> Tensor:
        """``steps`` forwards of the prepared cache; the last logits, ``[ROWS, vocabulary]``."""
        for slot in range(HELD, HELD + self.steps):
            logits = self._forward(slot, slot + 1)
        return logits

    def generate(self) -> Tensor:
        """``steps`` new tokens of a ``generate``, ``[ROWS, steps]``; the prompt is a small part."""
        tokens: Tensor = self.model.generate(
            input_ids=self.ids[:, :HELD],
            attention_mask=self.mask[:, :HELD],
            max_new_tokens=self.steps,
            do_sample=False,
        )
        return tokens[:, HELD:]

    def _forward(self, start: int, end: int) -> Tensor:
        """Slots ``start`` to ``end``, with all that ``generate`` gives to a forward."""
        logits: Tensor = self.model(
            input_ids=self.ids[:, start:end],
            attention_mask=self.mask[:, :end],
            position_ids=self.positions[:, start:end],
            use_cache=True,
            logits_to_keep=1,
            **{self.cache_name: self.cache},
        ).logits
        return logits[:, -1]


def load(ours: bool, steps: int) -> tuple[dict[str, Steps], dict[str, str]]:
    """The families that run here; and of the others, why not."""
    found, missing = {}, {}
    for family in CLASSES:
        try:
            found[family] = Steps(family, ours, steps)
        except Exception as error:  # an older version may fail with anything
            missing[family] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found, missing


@torch.inference_mode()
def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
    torch.set_num_threads(1)
    found, missing = load(sys.argv[1] == "ours", int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = missing
        if "family" in request:
            result = getattr(found[request["family"]], request["do"])()
            answer = [] if result is None else result.tolist()
        print(json.dumps({"answer": answer}), file=answers, flush=True)


if __name__ == "__main__":
    main()
