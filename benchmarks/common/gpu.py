"""The GPU of a run: what it is and what it can do."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass

import torch

from masked_attn.cli.info.machine import Gpu, this_gpu

from .machine import Machine, measure, products, reading

__all__ = ["GpuMachine", "measure_gpu"]


@dataclass(frozen=True)
class GpuMachine(Machine):
    """A machine with a GPU; ``products`` (of ``dtype``) and ``reading`` are those of the GPU."""

    gpu: Gpu
    driver: str
    cudnn: str
    dtype: str

    def __str__(self) -> str:
        return (
            f"{self.gpu}, driver {self.driver}; "
            f"masked_attn {self.masked_attn}, torch {self.torch} (CUDA {self.gpu.cuda}, "
            f"cuDNN {self.cudnn}), transformers {self.transformers}, Python {self.python}; "
            f"host: {self.cpu}, {self.cores} cores\n"
            f"measured: {1e-3 * self.products:.1f} TFLOP/s of {self.dtype} matrix products, "
            f"{self.reading:.0f} GB/s of reading; TF32 is off"
        )


def measure_gpu(quick: bool, dtype: torch.dtype) -> GpuMachine:
    """Turn TF32 off and measure; ``quick`` uses sizes too small to be right."""
    torch.set_float32_matmul_precision("highest")
    rates = {
        "products": products(256 if quick else 8192, "cuda", dtype),
        "reading": reading((8 if quick else 1024) << 20, "cuda"),
    }
    return GpuMachine(
        **{**asdict(measure(quick=True)), **rates},
        gpu=this_gpu(),
        driver=_driver(),
        cudnn=str(torch.backends.cudnn.version()),
        dtype=str(dtype).removeprefix("torch."),
    )


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["unknown"])[0]
