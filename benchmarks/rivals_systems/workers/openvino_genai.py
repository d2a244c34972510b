"""OpenVINO GenAI, which has its own loop in C++ and computes the logits of last positions only.

Two ways: ``stateful`` (a padded batch, one cache inside the model) and ``paged`` (prompts without
any padding, paged attention).
"""

from __future__ import annotations

from typing import Any

import numpy
import openvino
import openvino_genai

from .openvino_properties import properties
from .serve import Rows, System, Task, left_padded, main, versions


def greedy(new_tokens: int) -> Any:
    """Greedy, exactly ``new_tokens`` tokens."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = new_tokens
    config.do_sample = False
    config.ignore_eos = True
    config.eos_token_id = 0  # ignored, but it must be valid
    config.stop_token_ids = {0}
    config.apply_chat_template = False
    return config


def tensor(rows: Rows) -> Any:
    return openvino.Tensor(numpy.array(rows, dtype=numpy.int64))


class Described:
    """What both ways say of themselves."""

    def __init__(self, task: Task) -> None:
        self.properties = {**properties(task), "PERFORMANCE_HINT": "LATENCY"}

    def describe(self) -> dict[str, str]:
        told = {name: str(value) for name, value in self.properties.items()}
        return {**versions("openvino", "openvino-genai"), **told}


class Stateful(Described):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.pipeline = openvino_genai.LLMPipeline(
            task.converted, "CPU", ATTENTION_BACKEND="SDPA", **self.properties
        )

    def prepare(self, prompts: Rows, longest: int) -> Any:
        return openvino_genai.TokenizedInputs(*map(tensor, left_padded(prompts)))

    def generate(self, batch: Any, new_tokens: int) -> Rows:
        rows: Rows = self.pipeline.generate(batch, greedy(new_tokens)).tokens
        return rows


class Paged(Described):
    """Settings: ``batched_tokens``, the largest number of prompt tokens in one pass."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False  # the same prompts come in every turn
        scheduler.max_num_batched_tokens = task.settings["batched_tokens"]
        scheduler.cache_size = task.settings["cache_gigabytes"]
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            task.converted, scheduler_config=scheduler, device="CPU", properties=self.properties
        )

    def prepare(self, prompts: Rows, longest: int) -> list[Any]:
        return [tensor([row]) for row in prompts]

    def generate(self, batch: list[Any], new_tokens: int) -> Rows:
        results = self.pipeline.generate(batch, [greedy(new_tokens)] * len(batch))
        return [list(result.m_generation_ids[0]) for result in results]


def load(task: Task) -> System:
    ways: dict[str, type[Stateful] | type[Paged]] = {"stateful": Stateful, "paged": Paged}
    return ways[task.settings["way"]](task)


if __name__ == "__main__":
    main(load)
