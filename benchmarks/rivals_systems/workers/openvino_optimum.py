"""OpenVINO below ``generate`` of transformers, through optimum-intel: a stateful model."""

from __future__ import annotations

from typing import Any

import torch
from optimum.intel import OVModelForCausalLM
from torch import Tensor

from .openvino_properties import properties
from .serve import Rows, Task, left_padded, main, versions


def convert(task: Task) -> None:
    """Write the checkpoint as an OpenVINO model; weights stay float32."""
    model = OVModelForCausalLM.from_pretrained(
        task.checkpoint, export=True, compile=False, load_in_8bit=False
    )
    model.save_pretrained(task.converted)


class Optimum:
    """The prompt computes the logits of all its positions here, as the converted model says."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.model: Any = OVModelForCausalLM.from_pretrained(
            task.converted, ov_config={**properties(task), "PERFORMANCE_HINT": "LATENCY"}
        )
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0

    def describe(self) -> dict[str, str]:
        compiled = self.model.request.get_compiled_model()
        names = ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "INFERENCE_NUM_THREADS")
        return {
            **versions("openvino", "optimum-intel", "transformers"),
            **{name: str(compiled.get_property(name)) for name in names},
        }

    def prepare(self, prompts: Rows, longest: int) -> dict[str, Tensor]:
        ids, mask = left_padded(prompts)
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    def generate(self, batch: dict[str, Tensor], new_tokens: int) -> Rows:
        tokens = self.model.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
        rows: Rows = tokens[:, batch["input_ids"].shape[1] :].tolist()
        return rows


if __name__ == "__main__":
    main(Optimum, convert)
