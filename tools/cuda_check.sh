#!/bin/bash
# Builds masked_attn against a CUDA build of torch in an environment of its own (5 GB), imports it
# without needing a GPU, and checks what is registered for CUDA.
source "$(dirname "$0")/common.sh"

find_nvcc
use_cuda_venv
out=build/cuda-check
mkdir -p $out
# In a folder of its own, so that the build for the CPU in this checkout stays.
build_for_cuda $out/build.log --no-deps --upgrade --target $out/site .
PYTHONPATH=$PWD/$out/site "$cuda_python" tools/cuda_check.py
