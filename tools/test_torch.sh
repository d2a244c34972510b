#!/bin/bash
# Builds masked_attn and runs the operator tests with every torch that pip has a CPU build of, each
# in its own virtual environment. The other releases are reported as untested, with the reason.
source "$(dirname "$0")/common.sh"

tests=(tests/python/ops)
for name in kv_cache masks merging modules reference; do
  tests+=("tests/python/test_$name.py")
done

answer=$(python tools/newer_releases.py --torch) || stop "pip could not be asked which torch there is"
mkdir -p build
summary=()
failed=0
while read -r what version reason; do
  if [ "$what" = untested ]; then
    summary+=("torch $version untested: $reason")
    continue
  fi
  venv=.venv-torch-$version
  log=build/torch-$version.log
  make_venv "$venv"
  say "torch $version: building into $venv"
  "$venv/bin/python" -m pip install -qq "torch==$version" --requirement tools/requirements-dev.txt
  if ! "$venv/bin/python" -m pip install --verbose --no-build-isolation --force-reinstall \
    --no-deps . > "$log" 2>&1; then
    tail -n 60 "$log" >&2
    summary+=("torch $version: the build failed, see $log")
    failed=1
    continue
  fi
  "$venv/bin/python" -m pip install -qq "torch==$version" "masked_attn[test]"
  say "torch $version: testing"
  PATH="$PWD/$venv/bin:$PATH" test_alone "${tests[@]}" 2>&1 | tee "$log" || failed=1
  summary+=("torch $version: $(tail -n 1 "$log")")
done <<< "$answer"
say "summary"
printf '%s\n' "${summary[@]}"
exit $failed
