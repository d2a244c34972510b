#!/bin/bash
# Runs some of the CUDA tests under each tool of compute-sanitizer, with what `make gpu` built.
#   GPU_PYTHON=/usr/bin/python3  as for `make gpu`
#   TOOLS="memcheck synccheck"   only these
source "$(dirname "$0")/common.sh"

# All kernels, in all dtypes, at sizes beside their tiles. No graphs: they need the memory cache.
tests=(
  tests/python/ops/test_expand_mask.py::test_large_mask
  tests/python/ops/test_expand_mask.py::test_every_fill_the_dtype_can_hold
  tests/python/ops/test_masked_softmax.py::test_weights_of_a_row_sum_to_one
  tests/python/ops/test_masked_attention.py::test_value_size_differs_from_key_size
  tests/python/ops/test_masked_attention.py::test_float32_query_beside_half_keys
  tests/python/ops/test_masked_attention_masks.py::test_windows
  tests/python/ops/test_layouts.py::test_18_expanded_inputs
  tests/python/ops/test_cached_attention.py::test_18_caches_may_be_strided_views
  tests/python/ops/test_cached_attention.py::test_35_exact_capacity
  tests/python/ops/test_cached_attention.py::test_35_36_position_on_the_device_is_clamped
)
out=build/cuda-sanitize
failed=0

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null) ||
  stop "there is no compute-sanitizer. Install it with the CUDA toolkit and put it into PATH."
cuda_python=${GPU_PYTHON:-$PWD/.venv-cuda/bin/python}
[ -z "${GPU_PYTHON:-}" ] || export PYTHONPATH=$PWD/build/gpu/site
[ -x "$cuda_python" ] || stop "there is no $cuda_python. Run: make gpu"
reason=$(PYTHONPATH=tests/python:${PYTHONPATH:-} "$cuda_python" -c \
  'from support.devices import why_no_cuda; print(why_no_cuda() or "")' 2>&1 | tail -n 1) || true
[ -z "$reason" ] || stop "nothing can run on CUDA: $reason"

mkdir -p $out
export PYTORCH_NO_CUDA_MEMORY_CACHING=1 MASKED_ATTN_REQUIRE_CUDA=1
for tool in ${TOOLS:-memcheck racecheck initcheck synccheck}; do
  say "$tool"
  only=(--kernel-regex kns=masked_attn)
  # initcheck must see who wrote what ours read: torch's kernels.
  [ "$tool" != initcheck ] || only=()
  "$sanitizer" --tool "$tool" "${only[@]}" --error-exitcode 99 \
    "$cuda_python" -m pytest -q -x -m cuda -p no:cacheprovider "${tests[@]}" \
    > $out/"$tool".log 2>&1 || {
    echo "    failed: $out/$tool.log"
    failed=1
  }
  tail -n 1 $out/"$tool".log
done
exit $failed
