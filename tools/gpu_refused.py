"""Say in one line why the GPU of this machine can't be used; say nothing if it can."""

from __future__ import annotations

import warnings

import torch

OLDEST = (8, 0)  # the oldest GPU that cmake/cuda.cmake compiles for


def refused() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    with warnings.catch_warnings():  # torch warns of an old driver
        warnings.simplefilter("ignore")
        usable = torch.cuda.is_available()
    if not usable:
        needs = f"is its driver new enough for CUDA {torch.version.cuda}?"
        return f"torch {torch.__version__} can't use the GPU of this machine: {needs}"
    if torch.cuda.get_device_capability() < OLDEST:
        return f"{torch.cuda.get_device_name()} is older than the GPUs that kernels are built for"
    return ""


if __name__ == "__main__":
    print(refused())
