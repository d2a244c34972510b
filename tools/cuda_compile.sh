#!/bin/bash
# Compiles the CUDA kernels with nvcc alone (no torch, no GPU), for every architecture of the build,
# and prints what the compiler gave each of them. Fails if one spills registers.
source "$(dirname "$0")/common.sh"

find_nvcc
folder=build/cuda-kernels
mkdir -p $folder
say "compiling the CUDA kernels with $nvcc"
cmake -S . -B $folder -DMASKED_ATTN_BUILD_OPS=OFF -DMASKED_ATTN_BUILD_CUDA_KERNELS=ON \
  -DMASKED_ATTN_NVCC="$nvcc" -DCMAKE_CUDA_FLAGS=-Xptxas=-v > $folder/configure.log
cmake --build $folder --clean-first --target masked_attn_cuda_kernels > $folder/build.log 2>&1 || {
  tail -n 60 $folder/build.log >&2
  stop "the CUDA kernels do not compile"
}
python tools/cuda_kernels_table.py $folder/build.log
