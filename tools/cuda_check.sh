#!/bin/bash
# Builds masked_attn against a CUDA build of torch in an environment of its own (5 GB), imports it
# without needing a GPU, and checks what is registered for CUDA.
source "$(dirname "$0")/common.sh"

find_nvcc
export PATH="$(dirname "$nvcc"):$PATH"
venv=.venv-cuda
make_venv $venv
if [ ! -e $venv/ready ]; then
  say "installing ${CUDA_TORCH:=torch==2.14.1} into $venv: gigabytes"
  $venv/bin/pip install --quiet "$CUDA_TORCH" numpy cmake ninja setuptools
  touch $venv/ready
fi
export PATH="$PWD/$venv/bin:$PATH"
say "building masked_attn for CUDA"
mkdir -p build/cuda-check
# In a folder of its own, so that the build for the CPU in this checkout stays.
pip install --verbose --no-build-isolation --no-deps --upgrade --target build/cuda-check/site . \
  > build/cuda-check/build.log 2>&1 || {
  tail -n 60 build/cuda-check/build.log >&2
  stop "the build failed; the whole log is build/cuda-check/build.log"
}
PYTHONPATH=$PWD/build/cuda-check/site python tools/cuda_check.py
