"""The devices of the operator tests: the CPU, and CUDA where torch, the build and a GPU allow."""

from __future__ import annotations

import os

import pytest
import torch

CUDA = torch.device("cuda", 0)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))
# For ``parametrize(("device", "threads"), ..., indirect=["device"])``: a GPU has no such number.
DEVICES_AND_THREADS = (
    *(("cpu", threads) for threads in (1, 2, 3)),
    pytest.param("cuda", 1, marks=pytest.mark.cuda),
)
# Heads of more elements are an error on CUDA.
MAX_CUDA_HEAD_DIM = 256


def cuda_is_required() -> bool:
    """Whether a run that leaves CUDA out counts as failed."""
    return os.environ.get("MASKED_ATTN_REQUIRE_CUDA", "") not in ("", "0")


def why_no_cuda() -> str | None:
    """Why nothing can be tested on CUDA here, or None if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is not a build for CUDA"
    # Not at the top: the tests of the sources run where nothing is built, too.
    from masked_attn import _C

    facts = _C.build_info()
    if not facts["cuda"]:
        return f"masked_attn was built without CUDA kernels ({facts['cuda_reason']})"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU"
    return None
