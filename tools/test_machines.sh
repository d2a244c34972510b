#!/bin/bash
# The operator tests as other machines would run them: instruction sets of torch, of MKL and ours,
# and other random numbers. Prints a table of counts. Arguments are tests instead of all of these.
source "$(dirname "$0")/common.sh"

tests=(tests/python/ops tests/python/test_{reference,merging,modules,masks,kv_cache}.py)
[ $# -eq 0 ] || tests=("$@")
settings=(MASKED_ATTN_TEST_SEED=0 ATEN_CPU_CAPABILITY={default,avx2} MKL_ENABLE_INSTRUCTIONS={SSE4_2,AVX2})
for isa in $(python -c 'from masked_attn import _C; print(*_C.instruction_sets())'); do
  settings+=("MASKED_ATTN_ISA=$isa")
done
for seed in {1..10}; do settings+=("MASKED_ATTN_TEST_SEED=$seed"); done

run() {
  local seed=${1#MASKED_ATTN_TEST_SEED=}
  [ "$seed" != "$1" ] || seed=0
  export "${1?}"
  test_alone -p no:cacheprovider --hypothesis-seed="$seed" "${tests[@]}"
}

mkdir -p build/machines
table=build/machines/table.txt
echo "$(python -c 'import torch; print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())'), \
$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" > "$table"
failed=0
for setting in "${settings[@]}"; do
  log=build/machines/$setting.log
  say "$setting"
  (run "$setting") > "$log" 2>&1 || failed=1
  printf '%-34s %s; largest error / bound in float32: %s\n' "$setting" "$(tail -n 1 "$log" | tr -d =)" \
    "$(sed -n 's/^largest error.*float32: //p' "$log" | sort -rn | head -n 1)" >> "$table"
  grep -E '^(FAILED|ERROR) ' "$log" | sed 's/^/    /' >> "$table" || true
  tail -n 1 "$table"
done
say "all of them, logs in build/machines"
cat "$table"
exit $failed
