#!/bin/bash
# Builds masked_attn and installs it into .venv, in place: changes of Python files need no new build.
source "$(dirname "$0")/common.sh"

# Without the extra `hf`: it caps transformers, and the tests take the newest.
say "building masked_attn (minutes the first time, seconds after that)"
log=build/build.log
mkdir -p build
if ! python -m pip install --verbose --no-build-isolation --editable '.[test,plot]' > $log 2>&1; then
  tail -n 60 $log >&2
  stop "the build failed; the whole log is $log"
fi
python -c "import masked_attn"
touch .venv/built
