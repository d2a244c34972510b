#!/bin/bash
# Builds masked_attn for the GPU of this machine, runs the CUDA tests and the benchmarks on it, and
# writes one table: build/gpu/report.md, and report.json.
#   GPU_SECONDS=540              seconds for all that; the download of torch (once) is not counted,
#                                and benchmarks that do not fit are listed as left out
#   GPU_JOBS=4                   processes of the tests
#   GPU_PYTHON=/usr/bin/python3  has a CUDA torch, the build tools, transformers and what tests need:
#                                nothing is downloaded
source "$(dirname "$0")/common.sh"

out=build/gpu
limit=${GPU_SECONDS:-540}
longest=180  # of one step: a kernel that hangs must not cost all the others
failed=0

# Sets `cuda_python`, and `what`: what pip installs, and where to.
choose_python() {
  if [ -z "${GPU_PYTHON:-}" ]; then
    use_cuda_venv
    what=(--constraint tools/requirements-dev.txt '.[hf,test]')
    return
  fi
  [ -x "$GPU_PYTHON" ] || stop "GPU_PYTHON=$GPU_PYTHON is no program; give its whole path"
  cuda_python=$GPU_PYTHON
  export PATH="$(dirname "$GPU_PYTHON"):$(dirname "$nvcc"):$PATH" PYTHONPATH=$PWD/$out/site
  what=(--no-deps --upgrade --target $out/site .)
}

require_usable_gpu() {
  local refused
  refused=$("$cuda_python" tools/gpu_refused.py) || stop "torch can't be imported by $cuda_python"
  [ -z "$refused" ] || stop "$refused"
}

problem() {
  echo "    $*"
  echo "$*" >> $out/problems.txt
}

# Run a command for the seconds that are left; log to $out/$1.log.
in_time() {
  local name=$1 left=$((limit - SECONDS)) status=0
  shift
  ((left < longest)) || left=$longest
  ((left > 10)) || {
    problem "$name: left out, no time was left"
    [ "$name" != tests ] || failed=1
    return
  }
  say "$name (at most $left seconds)"
  timeout --kill-after=5 $left "$@" > $out/"$name".log 2>&1 || status=$?
  case $status in
    0) ;;
    124 | 137)
      problem "$name: stopped after $left seconds"
      [ "$name" != tests ] || failed=1
      ;;
    *)
      problem "$name: failed: $(tail -n 1 $out/"$name".log) (see $out/$name.log)"
      failed=1
      ;;
  esac
}

tests() {
  local jobs=()
  "$cuda_python" -c 'import xdist' 2> /dev/null && jobs=(--numprocesses "${GPU_JOBS:-4}")
  in_time tests env MASKED_ATTN_REQUIRE_CUDA=1 \
    "$cuda_python" -m pytest -q -rs -m cuda "${jobs[@]}" tests/python
  if grep -q '^tests:' $out/problems.txt 2> /dev/null; then
    grep '^tests:' $out/problems.txt | tee $out/tests.txt
  else
    tail -n 1 $out/tests.log | tee $out/tests.txt
  fi
}

bench() {
  local name=$1 script=$2
  shift 2
  in_time "$name" "$cuda_python" benchmarks/"$script".py --device cuda --json $out/"$name".json "$@"
}

[[ "$(nvidia-smi --list-gpus 2> /dev/null)" == GPU* ]] || stop "there is no GPU here (nvidia-smi lists none)"
find_nvcc
rm -rf $out
mkdir -p $out
choose_python
SECONDS=0
require_usable_gpu
build_for_cuda $out/build.log "${what[@]}"
tests
# The short ones first: what comes late may have to be left out.
bench expand_mask expand_mask
bench masked_softmax masked_softmax
bench cached_attention-bfloat16 cached_attention --dtype bfloat16
bench cached_attention-float32 cached_attention
bench masked_attention-bfloat16 masked_attention --dtype bfloat16 --repeats 5
bench masked_attention-float32 masked_attention --repeats 5
bench generate-bfloat16 generate --dtype bfloat16
bench masked_attention-float16 masked_attention --dtype float16 --repeats 5 --no-eager
bench generate-float32 generate
"$cuda_python" tools/gpu_report.py $out
say "$out/report.md and $out/report.json, after $SECONDS seconds"
exit $failed
