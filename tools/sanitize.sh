#!/bin/bash
# Runs the C++ tests that need no torch, emulated CUDA kernels included, under AddressSanitizer and
# UndefinedBehaviorSanitizer. Takes long: it is no part of `make test`.
source "$(dirname "$0")/common.sh"

tools/catch2.sh
folder=build/sanitize
mkdir -p $folder
say "building with sanitizers"
cmake -S . -B $folder -G Ninja -DMASKED_ATTN_SANITIZE=address,undefined \
  -DMASKED_ATTN_BUILD_OPS=OFF -DMASKED_ATTN_BUILD_TESTS=ON > $folder/build.log
cmake --build $folder ${MAX_JOBS:+--parallel "$MAX_JOBS"} >> $folder/build.log 2>&1 || {
  tail -n 60 $folder/build.log >&2
  stop "the C++ tests do not compile"
}
say "C++ tests under sanitizers"
ctest --test-dir $folder --output-on-failure --parallel "${MAX_JOBS:-2}" --timeout 3600
