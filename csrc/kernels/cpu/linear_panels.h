// linear by packed panels, for any number of rows: a panel of the weight, or a part of it, is
// packed once for many rows of x, which take turns against it strip by strip. Meanwhile the memory
// of a later part is asked for.
#pragma once

#include "linear_block.h"
#include "linear_finish.h"
#include "linear_pack.h"
#include "linear_tiles.h"
#include "policy.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class Element, class T, class S>
class LinearPanels {
 public:
  LinearPanels(const LinearParams& p, char* scratch)
      : p_(p),
        weight_(static_cast<const S*>(p.weight.data)),
        shape_(panel_shape(p, kStrip<T>, sizeof(S))) {
    const int64_t rows = min_of(p.rows, cpu::kLinearRows);
    const int64_t panels = shape_.few ? rows * ceil_div(p.inputs, cpu::kInputPanel) : 0;
    Arena arena(scratch);
    totals_ = arena.take<T>(rows * cpu::kLinearOutputs);
    chains_ = arena.take<T>(shape_.few ? rows * cpu::kLinearOutputs : 0);
    weights_ = arena.take<T>(kStripStride * (cpu::kLinearOutputs / kStrip<T>));
    input_ = arena.take<T>(max_of(cpu::kPackedRows, panels) * kInputStride);
    bias_ = arena.take<T>(cpu::kLinearOutputs);
  }

  void run(Range rows, Range outputs) const {
    for (int64_t k = 0; shape_.few && k < p_.inputs; k += cpu::kInputPanel) {
      pack_x<Element>(p_, rows, {k, min_of(k + cpu::kInputPanel, p_.inputs)}, few_rows_of_x(k),
                      kInputStride);
    }
    for (int64_t m = rows.begin; m < rows.end; m += cpu::kLinearRows) {
      const Range some{m, min_of(m + cpu::kLinearRows, rows.end)};
      for (int64_t n = outputs.begin; n < outputs.end; n += shape_.outputs) {
        run_block(some, {n, min_of(n + shape_.outputs, outputs.end)}, outputs.end);
      }
    }
  }

 private:
  static_assert(cpu::kLinearOutputs % kStrip<T> == 0);
  static constexpr int64_t kInputStride = cpu::kInputPanel / Element::kInputs;
  static constexpr int64_t kStripStride = kInputStride * kStrip<T>;

  void run_block(Range rows, Range outputs, int64_t end) const {
    StripPanel<T> panel{};
    panel.input_stride = kInputStride;
    panel.sum_stride = ceil_div(length(outputs), kStrip<T>) * kStrip<T>;
    for (int64_t k = 0; k < p_.inputs; k += shape_.inputs) {
      const int64_t inputs = min_of(shape_.inputs, p_.inputs - k);
      pack_weight<Element>(part(outputs, k, inputs), weights_, kStripStride);
      panel.steps = steps_of<Element>(inputs);
      panel.begins = k % cpu::kInputPanel == 0;
      panel.ends = (k + inputs) % cpu::kInputPanel == 0 || k + inputs == p_.inputs;
      panel.first = k < cpu::kInputPanel;
      [[maybe_unused]] const typename Element::Scope scope;
      add_rows(panel, rows, k, inputs, ahead_of(outputs, k + shape_.ahead, end));
    }
    if (p_.inputs == 0) fill(totals_, T{0}, length(rows) * panel.sum_stride);
    load_bias(p_, outputs, panel.sum_stride, bias_);
    finish(p_, rows, outputs, totals_, panel.sum_stride, bias_);
  }

  void add_rows(StripPanel<T> panel, Range rows, int64_t k, int64_t inputs,
                LinesAhead lines) const {
    for (int64_t m = rows.begin; m < rows.end; m += cpu::kPackedRows) {
      const Range some{m, min_of(m + cpu::kPackedRows, rows.end)};
      panel.input = input_;
      if (shape_.few) {
        panel.input = few_rows_of_x(k);
      } else {
        pack_x<Element>(p_, some, {k, k + inputs}, input_, kInputStride);
      }
      panel.chain = chains_ + (m - rows.begin) * panel.sum_stride;
      panel.total = totals_ + (m - rows.begin) * panel.sum_stride;
      add_strips(panel, length(some), &lines);
    }
  }

  // All packed rows against all strips.
  void add_strips(const StripPanel<T>& all, int64_t rows, LinesAhead* lines) const {
    const int64_t block = rows_of_block<Element, T>(rows);
    const int64_t blocks = ceil_div(rows, block);
    StripPanel<T> panel = all;
    for (int64_t n = 0; n < all.sum_stride; n += kStrip<T>) {
      panel.weight = weights_ + n / kStrip<T> * kStripStride;
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t m = b * block;
        panel.asking = {b * panel.steps / blocks, (b + 1) * panel.steps / blocks};
        panel.input = all.input + m * kInputStride;
        panel.chain = all.chain + m * all.sum_stride + n;
        panel.total = all.total + m * all.sum_stride + n;
        multiply_strip<Element>(panel, min_of(block, rows - m), lines);
      }
    }
  }

  WeightPart<S> part(Range outputs, int64_t k, int64_t inputs) const {
    return {weight_ + (p_.transposed ? k * p_.weight.row_stride + outputs.begin
                                     : outputs.begin * p_.weight.row_stride + k),
            p_.weight.row_stride, inputs, length(outputs), p_.transposed};
  }

  // Where few rows are kept from input `k` on; they lie panel by panel.
  T* few_rows_of_x(int64_t k) const {
    const int64_t panel = k / cpu::kInputPanel;
    return input_ + panel * p_.rows * kInputStride + k % cpu::kInputPanel / Element::kInputs;
  }

  // The part at input `k`: of these outputs or, behind the last input, of further ones.
  LinesAhead ahead_of(Range outputs, int64_t k, int64_t end) const {
    if (k >= p_.inputs) {
      k -= p_.inputs;
      outputs = {outputs.end, min_of(outputs.end + shape_.outputs, end)};
    }
    if (k >= p_.inputs) return {};
    const WeightPart<S> next = part(outputs, k, min_of(shape_.inputs, p_.inputs - k));
    const int64_t columns = p_.transposed ? next.outputs : next.inputs;
    const int64_t rows = p_.transposed ? next.inputs : next.outputs;
    constexpr int64_t kBytes = sizeof(S);
    constexpr int64_t kStepBytes = kStrip<T> * Element::kInputs * kBytes;
    return {next.data, columns * kBytes, p_.weight.row_stride * kBytes, rows,
            ceil_div(kStepBytes, 64)};
  }

  const LinearParams& p_;
  const S* weight_;
  PanelShape shape_;
  T* totals_;   // [rows, outputs in whole strips]
  T* chains_;   // the same, of one panel
  T* weights_;  // [outputs / kStrip][steps, kStrip]
  T* input_;    // [kPackedRows, kInputStride], or that of each panel for few rows
  T* bias_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
