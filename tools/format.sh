#!/bin/bash
# Rewrites the layout of Python and C++ files.
source "$(dirname "$0")/common.sh"

ruff check --fix --quiet . || true
ruff format .
find csrc tests/cpp -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' |
  xargs clang-format -i
