#!/bin/bash
# Installs Catch2 for the C++ tests when it is missing and this user may; else says what to run.
# Where there is no apt-get, CMake fetches Catch2.
source "$(dirname "$0")/common.sh"

has_header() { echo "#include <catch2/$1>" | "${CXX:-c++}" -E -x c++ - > /dev/null 2>&1; }

if has_header catch_all.hpp || has_header catch.hpp || ! command -v apt-get > /dev/null; then
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  sudo=""
elif sudo -n true 2> /dev/null; then
  sudo="sudo -n"
else
  stop "Catch2 is missing (the C++ tests use it). Run: sudo apt-get install catch2"
fi
say "installing Catch2 with apt-get"
log=$(mktemp)
{ $sudo apt-get update && $sudo apt-get install --yes catch2; } > "$log" 2>&1 || {
  tail -n 20 "$log" >&2
  stop "Catch2 could not be installed. Run: sudo apt-get update && sudo apt-get install catch2"
}
