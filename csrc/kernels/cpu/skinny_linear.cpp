// skinny_linear on the CPU: few rows of x against a weight that is read once, where it lies. The
// time is that of reading it, so workers take long runs of it. No sum depends on where they are
// cut.
#include "kernels.h"
#include "linear_columns.h"
#include "linear_rows.h"
#include "parallel.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {
namespace {

// A task reads at least about this many bytes of the weight, where each worker has more than one.
constexpr int64_t kTaskBytes = 1 << 20;
constexpr int64_t kMaxTasks = 4;  // of one worker

int64_t count_tasks(const SkinnyLinearParams& p, int64_t units, int64_t element_bytes) {
  const int64_t workers = max_of(p.threads.count, 1);
  const int64_t bytes = p.inputs * p.outputs * element_bytes / workers;
  return min_of(units, workers * min_of(max_of(bytes / kTaskBytes, 1), kMaxTasks));
}

// `Layout` is LinearColumns or LinearRows.
template <template <class, class, class> class Layout, class Element, class T, class S>
int32_t run_layout(const SkinnyLinearParams& p) {
  using Linear = Layout<Element, T, S>;
  const PackedInput<Element, T> input(p, Linear::kPanel);
  const int64_t units = ceil_div(p.outputs, Linear::kUnit);
  const int64_t tasks = count_tasks(p, units, sizeof(S));
  return for_each_task(p.threads, tasks, [&](int64_t task, int64_t worker) {
    const Linear linear(p, input, p.workspace.workers + worker * p.workspace.worker_bytes);
    const int64_t begin = task * units / tasks * Linear::kUnit;
    const int64_t end = (task + 1) * units / tasks * Linear::kUnit;
    linear.run({begin, min_of(end, p.outputs)});
  });
}

template <class Element, class T, class S>
int32_t run_element(const SkinnyLinearParams& p) {
  return p.transposed ? run_layout<LinearColumns, Element, T, S>(p)
                      : run_layout<LinearRows, Element, T, S>(p);
}

template <class T, class S>
int32_t run(const SkinnyLinearParams& p) {
  if constexpr (kHasPairs && sizeof(T) == sizeof(float) && sizeof(S) == 2) {
    if (p.weight.dtype == DType::kBFloat16 && p.input.dtype == DType::kBFloat16) {
      return run_element<TwoInputs, float, BFloat16>(p);
    }
  }
  return run_element<OneInput, T, S>(p);
}

}  // namespace

int32_t skinny_linear(const SkinnyLinearParams& params) {
  switch (params.weight.dtype) {
    case DType::kFloat64:
      return run<double, double>(params);
    case DType::kFloat16:
      return run<float, Half>(params);
    case DType::kBFloat16:
      return run<float, BFloat16>(params);
    default:
      return run<float, float>(params);
  }
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
