// linear on the CPU: picks a loop (policy.h), cuts the work into tasks. No bit of a row depends on
// either.
#include "kernels.h"
#include "linear_lanes.h"
#include "linear_panels.h"
#include "linear_squares.h"
#include "linear_stream.h"
#include "parallel.h"
#include "policy.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {
namespace {

// Cuts rows and outputs into a grid of tasks; a task takes runs of whole strips.
struct TaskGrid {
  int64_t rows;
  int64_t outputs;
  int64_t strip;
  int64_t row_parts;
  int64_t output_parts;

  int64_t count() const { return row_parts * output_parts; }
  Range row_part(int64_t task) const {
    const int64_t part = task % row_parts;
    return {part * rows / row_parts, (part + 1) * rows / row_parts};
  }
  Range output_part(int64_t task) const {
    const int64_t part = task / row_parts;
    const int64_t strips = ceil_div(outputs, strip);
    return {part * strips / output_parts * strip,
            min_of((part + 1) * strips / output_parts * strip, outputs)};
  }
};

// A task reads a run of the weight, the longer the better, but each worker gets some. Many rows are
// cut, too, where outputs alone do not make enough tasks.
TaskGrid task_grid(const LinearParams& p, int64_t strip, int64_t element_bytes) {
  constexpr int64_t kTaskBytes = 1 << 20;
  constexpr int64_t kTasks = 2;  // of one worker
  const int64_t workers = max_of(p.threads.count, 1);
  const int64_t strips = ceil_div(p.outputs, strip);
  const int64_t bytes = p.inputs * p.outputs * element_bytes;
  const int64_t useful = max_of(bytes / kTaskBytes, p.rows * p.outputs / (64 * 64));
  const int64_t wanted = workers == 1 ? 1 : max_of(workers, min_of(workers * kTasks, useful));
  TaskGrid grid{p.rows, p.outputs, strip, 1, min_of(max_of(strips, 1), wanted)};
  const int64_t most = max_of(p.rows / cpu::kPackedRows, 1);
  grid.row_parts = min_of(most, ceil_div(wanted, grid.output_parts));
  return grid;
}

template <class Linear>
int32_t run_outputs(const LinearParams& p, const TaskGrid& grid) {
  return for_each_task(p.threads, grid.count(), [&](int64_t task, int64_t worker) {
    const Linear linear(p, p.workspace.workers + worker * p.workspace.worker_bytes);
    linear.run(grid.output_part(task));
  });
}

template <class Element, class T, class S>
int32_t run_element(const LinearParams& p) {
  const TaskGrid grid = task_grid(p, kStrip<T>, sizeof(S));
  const LinearLoop loop = linear_loop(p);
  if constexpr (Element::kGroup != kTileInputs) {
    if (loop == LinearLoop::kSquares) return run_outputs<LinearSquares<Element, T, S>>(p, grid);
  }
  if constexpr (Element::kInputs == 1) {
    if (loop == LinearLoop::kStream) return run_outputs<LinearStream<T, S>>(p, grid);
  }
  if constexpr (sizeof(T) == sizeof(S)) {
    if (loop == LinearLoop::kLanes) return run_outputs<LinearLanes<T>>(p, grid);
  }
  return for_each_task(p.threads, grid.count(), [&](int64_t task, int64_t worker) {
    const LinearPanels<Element, T, S> linear(
        p, p.workspace.workers + worker * p.workspace.worker_bytes);
    linear.run(grid.row_part(task), grid.output_part(task));
  });
}

template <class T, class S>
int32_t run(const LinearParams& p) {
  if constexpr (sizeof(T) == sizeof(float) && sizeof(S) == sizeof(BFloat16)) {
    const bool both = p.weight.dtype == DType::kBFloat16 && p.input.dtype == DType::kBFloat16;
    if constexpr (kHasTiles) {
      if (both) return run_element<TilePairs, T, BFloat16>(p);
    } else if constexpr (kUsesPairs) {
      if (both) return run_element<TwoInputs, T, BFloat16>(p);
    }
  }
  return run_element<OneInput, T, S>(p);
}

}  // namespace

int32_t linear(const LinearParams& params) {
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
