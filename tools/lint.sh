#!/bin/bash
# Checks the layout of Python and C++ files, common mistakes, and types.
source "$(dirname "$0")/common.sh"

say "ruff check"
ruff check .
say "ruff format --check"
ruff format --check .
say "mypy"
mypy
say "clang-format"
find csrc tests/cpp -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' |
  xargs clang-format --dry-run -Werror
