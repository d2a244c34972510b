"""GPT-2 of transformers: stock, with the choices that transformers offers, or patched by ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, StaticCache

from .serve import Rows, Task, left_padded, main, versions


@dataclass(frozen=True)
class Batch:
    """Padded prompts, and the capacity that a static cache needs."""

    inputs: dict[str, Tensor]
    longest: int


class HuggingFace:
    """``generate`` of transformers.

    Settings: ``attention`` (eager, sdpa), ``static`` (a StaticCache for each call), ``compile``
    (``forward`` through torch.compile with this backend), ``activation`` (in place of the
    config's), ``patch`` (arguments of ``masked_attn.patch``).
    """

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.settings = task.settings
        other = {"activation_function": self.settings.get("activation", "gelu_new")}
        self.model: Any = GPT2LMHeadModel.from_pretrained(
            task.checkpoint,
            dtype=getattr(torch, task.dtype),
            attn_implementation=self.settings.get("attention", "sdpa"),
            **other,
        ).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        if "patch" in self.settings:
            import masked_attn

            masked_attn.patch(self.model, **self.settings["patch"])
        backend = self.settings.get("compile")
        if backend == "zentorch":
            _load_zentorch()
        if backend:
            # Shapes are the same in every step and every turn: one compilation for a prompt, one
            # for a step, in each workload.
            self.model.forward = torch.compile(self.model.forward, dynamic=False, backend=backend)

    def describe(self) -> dict[str, str]:
        found = {"torch": torch.__version__, **versions("transformers")}
        if self.settings.get("compile") == "zentorch":
            found |= versions("zentorch")
        if "patch" in self.settings:
            import masked_attn

            found["masked_attn"] = masked_attn.__version__
            found["instruction set"] = masked_attn._C.selected_instruction_set()
        return found

    def prepare(self, prompts: Rows, longest: int) -> Batch:
        ids, mask = left_padded(prompts)
        return Batch(
            {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}, longest
        )

    @torch.inference_mode()
    def generate(self, batch: Batch, new_tokens: int) -> Rows:
        keywords: dict[str, Any] = {"max_new_tokens": new_tokens, "do_sample": False}
        if self.settings.get("static"):
            keywords["past_key_values"] = StaticCache(
                config=self.model.config, max_cache_len=batch.longest
            )
        tokens: Tensor = self.model.generate(**batch.inputs, **keywords)
        rows: Rows = tokens[:, batch.inputs["input_ids"].shape[1] :].tolist()
        return rows


def _load_zentorch() -> None:
    """Its backend registers itself. Without AVX-512 it only warns, and hands all to inductor."""
    import zentorch

    if not zentorch._C.is_avx512_supported():
        raise RuntimeError("zentorch changes nothing in a graph on a CPU without AVX-512")


if __name__ == "__main__":
    main(HuggingFace)
