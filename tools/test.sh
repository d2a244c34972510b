#!/bin/bash
# C++ tests through ctest, then Python tests through pytest; prints what was skipped and why.
source "$(dirname "$0")/common.sh"

tools/catch2.sh
folder=$(python -c 'import setup; print(setup.build_folder(setup.torch_version()))')
say "building the C++ tests"
cmake -S . -B "$folder" -DMASKED_ATTN_BUILD_TESTS=ON > "$folder/tests.log"
cmake --build "$folder" ${MAX_JOBS:+--parallel "$MAX_JOBS"} >> "$folder/tests.log" 2>&1 || {
  tail -n 60 "$folder/tests.log" >&2
  stop "the C++ tests do not compile"
}

say "C++ tests"
export MASKED_ATTN_TEST_NOTES=$folder/skipped.txt
rm -f "$MASKED_ATTN_TEST_NOTES"
failed=0
ctest --test-dir "$folder" --output-on-failure --parallel 2 || failed=1
if [ -s "$MASKED_ATTN_TEST_NOTES" ]; then
  sort --unique "$MASKED_ATTN_TEST_NOTES"
else
  echo "skipped: nothing"
fi

say "Python tests"
# The newest release, which users get; without a network the one that is there.
python -m pip install -qq --upgrade "${TRANSFORMERS:=transformers}" ||
  echo "warning: pip could not look for a newer transformers"
python tools/newer_releases.py --installed
test_alone --durations=5 || failed=1
exit $failed
