"""What every use of OpenVINO is told: threads, and one precision for arithmetic and cache."""

from __future__ import annotations

from typing import Any

from .serve import Task

__all__ = ["properties"]

PRECISIONS = {"float32": ("f32", "f32"), "bfloat16": ("bf16", "f16")}


def properties(task: Task) -> dict[str, Any]:
    """Properties of the CPU device. Without them it would take bf16 and an 8-bit cache."""
    arithmetic, cache = PRECISIONS[task.dtype]
    return {
        "INFERENCE_NUM_THREADS": task.threads,
        "INFERENCE_PRECISION_HINT": arithmetic,
        "KV_CACHE_PRECISION": cache,
    }
