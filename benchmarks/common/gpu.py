"""The GPU of a run: what it is and what it can do."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass

import torch

from .machine import Machine, measure, products, reading

__all__ = ["GpuMachine", "measure_gpu"]


@dataclass(frozen=True)
class GpuMachine(Machine):
    """A machine with a GPU; ``products`` (of ``dtype``) and ``reading`` are those of the GPU."""

    gpu: str
    capability: str
    memory: float
    driver: str
    cuda: str
    cudnn: str
    dtype: str

    def __str__(self) -> str:
        return (
            f"{self.gpu}, sm_{self.capability}, {self.memory:.0f} GB, driver {self.driver}; "
            f"masked_attn {self.masked_attn}, torch {self.torch} (CUDA {self.cuda}, "
            f"cuDNN {self.cudnn}), transformers {self.transformers}, Python {self.python}; "
            f"host: {self.cpu}, {self.cores} cores\n"
            f"measured: {1e-3 * self.products:.1f} TFLOP/s of {self.dtype} matrix products, "
            f"{self.reading:.0f} GB/s of reading; TF32 is off"
        )


def measure_gpu(quick: bool, dtype: torch.dtype) -> GpuMachine:
    """Turn TF32 off and measure; ``quick`` uses sizes too small to be right."""
    torch.set_float32_matmul_precision("highest")
    facts = torch.cuda.get_device_properties(0)
    rates = {
        "products": products(256 if quick else 8192, "cuda", dtype),
        "reading": reading((8 if quick else 1024) << 20, "cuda"),
    }
    return GpuMachine(
        **{**asdict(measure(quick=True)), **rates},
        gpu=facts.name,
        capability=f"{facts.major}{facts.minor}",
        memory=1e-9 * facts.total_memory,
        driver=_driver(),
        cuda=str(torch.version.cuda),
        cudnn=str(torch.backends.cudnn.version()),
        dtype=str(dtype).removeprefix("torch."),
    )


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["unknown"])[0]
