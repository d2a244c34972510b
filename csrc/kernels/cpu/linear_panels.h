// linear by packed panels, for any number of rows: a panel of the weight is packed once for many
// rows of x, which take turns against it strip by strip. While one panel is multiplied, the next
// is asked for.
#pragma once

#include "linear_block.h"
#include "linear_finish.h"
#include "linear_pack.h"
#include "linear_tiles.h"
#include "plan.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class Element, class T, class S>
class LinearPanels {
 public:
  LinearPanels(const LinearParams& p, char* scratch)
      : p_(p), weight_(static_cast<const S*>(p.weight.data)) {
    Arena arena(scratch);
    totals_ = arena.take<T>(min_of(p.rows, cpu::kLinearRows) * cpu::kLinearOutputs);
    weights_ = arena.take<T>(kStripStride * (cpu::kLinearOutputs / kStrip<T>));
    input_ = arena.take<T>(cpu::kPackedRows * kInputStride);
    bias_ = arena.take<T>(cpu::kLinearOutputs);
  }

  void run(Range rows, Range outputs) const {
    for (int64_t m = rows.begin; m < rows.end; m += cpu::kLinearRows) {
      const Range some{m, min_of(m + cpu::kLinearRows, rows.end)};
      for (int64_t n = outputs.begin; n < outputs.end; n += cpu::kLinearOutputs) {
        run_block(some, {n, min_of(n + cpu::kLinearOutputs, outputs.end)}, outputs.end);
      }
    }
  }

 private:
  static_assert(cpu::kLinearOutputs % kStrip<T> == 0);
  static constexpr int64_t kInputStride = cpu::kInputPanel / Element::kInputs;
  static constexpr int64_t kStripStride = kInputStride * kStrip<T>;

  void run_block(Range rows, Range outputs, int64_t end) const {
    const int64_t stride = ceil_div(length(outputs), kStrip<T>) * kStrip<T>;
    for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel) {
      const int64_t inputs = min_of(cpu::kInputPanel, p_.inputs - k);
      pack_weight<Element>(part(outputs, k, inputs), weights_, kStripStride);
      LinesAhead lines = ahead_of(outputs, k, end);
      for (int64_t m = rows.begin; m < rows.end; m += cpu::kPackedRows) {
        const Range some{m, min_of(m + cpu::kPackedRows, rows.end)};
        pack_rows_of_x(some, k, inputs);
        T* totals = totals_ + (m - rows.begin) * stride;
        add_panel(length(some), stride, k == 0, inputs, totals, &lines);
      }
    }
    if (p_.inputs == 0) fill(totals_, T{0}, length(rows) * stride);
    load_bias(p_, outputs, stride, bias_);
    finish(p_, rows, outputs, totals_, stride, bias_);
  }

  // All packed rows against all strips.
  void add_panel(int64_t rows, int64_t stride, bool first, int64_t inputs, T* totals,
                 LinesAhead* lines) const {
    const int64_t block = rows_of_block<Element, T>(rows);
    StripPanel<T> panel{};
    panel.input_stride = kInputStride;
    panel.steps = steps_of<Element>(inputs);
    panel.total_stride = stride;
    panel.first = first;
    for (int64_t n = 0; n < stride; n += kStrip<T>) {
      panel.weight = weights_ + n / kStrip<T> * kStripStride;
      for (int64_t m = 0; m < rows; m += block) {
        panel.input = input_ + m * kInputStride;
        panel.total = totals + m * stride + n;
        multiply_strip<Element>(panel, min_of(block, rows - m), lines);
      }
    }
  }

  WeightPart<S> part(Range outputs, int64_t k, int64_t inputs) const {
    return {weight_ + (p_.transposed ? k * p_.weight.row_stride + outputs.begin
                                     : outputs.begin * p_.weight.row_stride + k),
            p_.weight.row_stride, inputs, length(outputs), p_.transposed};
  }

  void pack_rows_of_x(Range rows, int64_t k, int64_t inputs) const {
    with_stored_type<T>(p_.input, [&](const auto* source) {
      if constexpr (Element::kInputs == 1 || sizeof(*source) == sizeof(S)) {
        pack_input<Element>(source + rows.begin * p_.input.row_stride + k, p_.input.row_stride,
                            length(rows), inputs, input_, kInputStride);
      }
    });
  }

  // The panel behind this one: further inputs, or the first of further outputs.
  LinesAhead ahead_of(Range outputs, int64_t k, int64_t end) const {
    k += cpu::kInputPanel;
    if (k >= p_.inputs) {
      k = 0;
      outputs = {outputs.end, min_of(outputs.end + cpu::kLinearOutputs, end)};
    }
    const int64_t inputs = min_of(cpu::kInputPanel, p_.inputs - k);
    const WeightPart<S> next = part(outputs, k, inputs);
    const int64_t row_bytes = p_.weight.row_stride * static_cast<int64_t>(sizeof(S));
    const int64_t columns = p_.transposed ? length(outputs) : inputs;
    const int64_t rows = p_.transposed ? inputs : length(outputs);
    return {next.data, columns * static_cast<int64_t>(sizeof(S)), row_bytes,
            columns > 0 ? rows : 0};
  }

  const LinearParams& p_;
  const S* weight_;
  T* totals_;   // [rows, outputs in whole strips]
  T* weights_;  // [outputs / kStrip][steps, kStrip]
  T* input_;    // [kPackedRows, kInputStride]
  T* bias_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
