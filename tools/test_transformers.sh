#!/bin/bash
# Runs the integration tests with each version of transformers given (default: every tested one and
# the newest), each in its own virtual environment, all with the same wheel of masked_attn.
source "$(dirname "$0")/common.sh"

[ $# -gt 0 ] || set -- $(python tools/newer_releases.py --transformers)
[ $# -gt 0 ] || stop "pip could not be asked which transformers there are: name the versions"

say "building the wheel"
rm -rf build/wheel
python -m pip wheel -qq --no-build-isolation --no-deps --wheel-dir build/wheel .
wheel=$(echo build/wheel/masked_attn-*.whl)

summary=()
failed=0
for version in "$@"; do
  venv=.venv-transformers-$version
  make_venv "$venv"
  say "transformers $version: installing into $venv"
  "$venv/bin/python" -m pip install -qq "${TORCH:-torch==2.13.0}" "transformers==$version"
  "$venv/bin/python" -m pip install -qq --no-deps --force-reinstall "$wheel"
  # Without the extra `hf`: its cap would refuse a version that is newer.
  "$venv/bin/python" -m pip install -qq "$wheel[test]" "transformers==$version"
  say "transformers $version: testing"
  log=build/transformers-$version.log
  PATH="$PWD/$venv/bin:$PATH" test_alone tests/python/hf tests/python/cli 2>&1 |
    tee "$log" || failed=1
  summary+=("transformers $version: $(tail -n 1 "$log")")
done
say "summary"
printf '%s\n' "${summary[@]}"
exit $failed
