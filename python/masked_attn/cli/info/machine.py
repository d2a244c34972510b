"""What every report says of the machine it ran on: the CPU, the instruction sets, the versions."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

import masked_attn
from masked_attn.cli.version import installed

__all__ = [
    "Gpu",
    "Machine",
    "cpu_name",
    "describe_gpu",
    "installed",
    "this_gpu",
    "this_machine",
    "why_no_gpu",
]


@dataclass(frozen=True)
class Machine:
    """The machine and the versions of one run.

    Args:
        threads: threads of torch, and so of ours.
        instruction_set: the one that our kernels use.
        torch_instruction_set: the one that torch's own loops use.
    """

    cpu: str
    cores: int
    threads: int
    instruction_set: str
    torch_instruction_set: str
    masked_attn: str
    torch: str
    transformers: str
    python: str

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"{self.cpu}, {self.cores} cores, {threads}; "
            f"masked_attn {self.masked_attn} ({self.instruction_set}), "
            f"torch {self.torch} ({self.torch_instruction_set}), "
            f"transformers {self.transformers}, Python {self.python}"
        )


def this_machine() -> Machine:
    """The facts as they are now; transformers is looked up, not imported: that takes seconds."""
    return Machine(
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instruction_set=masked_attn._C.selected_instruction_set(),
        torch_instruction_set=torch.backends.cpu.get_cpu_capability(),
        masked_attn=masked_attn.__version__,
        torch=torch.__version__,
        transformers=installed("transformers") or "none",
        python=platform.python_version(),
    )


def cpu_name() -> str:
    """The model name of the CPU, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor()) or platform.machine()


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, ``90`` for sm_90, its memory in GB (1e9 bytes), the CUDA of torch."""

    name: str
    capability: str
    memory: float
    cuda: str

    def __str__(self) -> str:
        return f"{self.name}, sm_{self.capability}, {self.memory:.0f} GB"


def this_gpu() -> Gpu:
    """The first GPU."""
    facts = torch.cuda.get_device_properties(0)
    capability = f"{facts.major}{facts.minor}"
    return Gpu(facts.name, capability, 1e-9 * facts.total_memory, str(torch.version.cuda))


def describe_gpu() -> str:
    """The first GPU in one phrase."""
    gpu = this_gpu()
    return f"{gpu}, CUDA {gpu.cuda}"


def why_no_gpu() -> str | None:
    """Why nothing of ours can run on a GPU here; ``None`` where it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU that it can use"
    facts = masked_attn._C.build_info()
    if not facts["cuda"]:
        return f"masked_attn is built without CUDA kernels ({facts['cuda_reason']})"
    return None
