// skinny_linear with a weight [N, K], contiguous along the inputs, as nn.Linear and lm_head have
// it. A register block is some rows of x by some rows of the weight; each of its sums is a vector
// with one chain per lane over a panel of inputs, whose lanes are then added. Panels are long, for
// adding lanes takes time. The weight is one stream, asked for a few rows ahead.
#pragma once

#include "linear_element.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Some rows of x against some rows of the weight, over one panel.
template <class T, class S>
struct RowPanel {
  const T* input;   // [rows, panel], as packed
  const S* weight;  // [weight rows, stride]
  int64_t stride;
  int64_t inputs;  // a multiple of the vector
  bool first;      // the first panel starts the sums, the others are added
  const S* ahead;  // rows of the weight that are asked for meanwhile
  int64_t ahead_stride;
  Range asking;  // at these inputs
};

// total[kRows, kColumns], rows of it `total_stride` apart.
template <class Element, class T, class S, int kRows, int kColumns>
inline void row_block(const RowPanel<T, S>& p, T* total, int64_t total_stride) {
  constexpr int64_t kInputStride = cpu::kInputPanelBytes / sizeof(S) / Element::kInputs;
  constexpr int64_t kStep = Vec<T>::kLanes * Element::kInputs;
  SumBlock<T, kRows, kColumns> sums;
  for (int64_t k = 0; k < p.inputs; k += kStep) {
    if (k >= p.asking.begin && k < p.asking.end) {
      for (int j = 0; j < kColumns; ++j) {
        __builtin_prefetch(p.ahead + j * p.ahead_stride + k, 0, 2);
      }
    }
    const T* input = p.input + k / Element::kInputs;
    sums.template add<Element>(
        [&](int j) { return Element::template load_row<T>(p.weight + j * p.stride + k); },
        [&](int i) { return Vec<T>::load(input + i * kInputStride); });
  }
  const bool first = p.first;
  sums.for_each([&](int i, int j, Vec<T> sums_of_lanes) {
    const T sum = reduce_add(sums_of_lanes);
    T* out = total + i * total_stride + j;
    *out = first ? sum : *out + sum;
  });
}

// Finds the block that has exactly `rows` rows of x.
template <class Element, int kRows, int kColumns, class T, class S>
inline void row_blocks(const RowPanel<T, S>& p, int64_t rows, T* total, int64_t total_stride) {
  if (rows == kRows) {
    row_block<Element, T, S, kRows, kColumns>(p, total, total_stride);
  } else if constexpr (kRows > 1) {
    row_blocks<Element, kRows - 1, kColumns>(p, rows, total, total_stride);
  }
}

template <class Element, class T, class S>
class LinearRows {
 public:
  static constexpr int64_t kPanel = cpu::kInputPanelBytes / sizeof(S);
  // Outputs per unit of work: rows of the weight in a register block.
  static constexpr int64_t kUnit = Vec<T>::kBlockVectors;

  LinearRows(const SkinnyLinearParams& p, const PackedInput<Element, T>& input, char* scratch)
      : p_(p), input_(input), weight_(static_cast<const S*>(p.weight.data)) {
    Arena arena(scratch);
    sums_ = arena.take<T>(cpu::kOutputBlock * p.rows);
    bias_ = arena.take<T>(cpu::kOutputBlock);
    edge_ = arena.take<S>(kUnit * kPanel);
  }

  void run(Range outputs) const {
    for (int64_t n = outputs.begin; n < outputs.end; n += kBlock) {
      const Range block{n, min_of(n + kBlock, outputs.end)};
      for (int64_t k = 0; k < p_.inputs; k += kPanel) add_panel(block, k, outputs.end);
      finish_outputs(p_, block, sums_, kBlock, bias_);
    }
  }

 private:
  static constexpr int64_t kBlock = cpu::kOutputBlock / kUnit * kUnit;
  static constexpr int64_t kStep = Vec<T>::kLanes * Element::kInputs;
  // From the row of the weight that is needed to the one that is asked for, up to 3 KB of each.
  static constexpr int64_t kAhead = 12;

  const S* weight(int64_t n, int64_t k) const { return weight_ + n * p_.weight.row_stride + k; }

  void add_panel(Range block, int64_t k, int64_t end) const {
    int64_t n = block.begin;
    for (; n + kUnit <= block.end; n += kUnit) {
      add_rows<kUnit>(n, k, ahead_of(block, n, k, end), sums_ + n - block.begin);
    }
    for (; n < block.end; ++n) add_rows<1>(n, k, nullptr, sums_ + n - block.begin);
  }

  // `kColumns` rows of the weight, from row `n` on, with all rows of x.
  template <int kColumns>
  void add_rows(int64_t n, int64_t k, const S* ahead, T* sums) const {
    RowPanel<T, S> panel{};
    panel.weight = weight(n, k);
    panel.stride = p_.weight.row_stride;
    panel.inputs = min_of(kPanel, p_.inputs - k);
    panel.first = k == 0;
    panel.ahead = ahead;
    panel.ahead_stride = panel.stride;
    if (panel.inputs % kStep != 0) pad<kColumns>(&panel);
    const int64_t blocks = ceil_div(p_.rows, kBlockRows);
    for (int64_t b = 0; b < blocks; ++b) {
      const Range rows{b * p_.rows / blocks, (b + 1) * p_.rows / blocks};
      panel.input = input_.row(k, rows.begin);
      if (ahead != nullptr) {
        panel.asking = {b * panel.inputs / blocks, (b + 1) * panel.inputs / blocks};
      }
      row_blocks<Element, kBlockRows, kColumns>(panel, length(rows), sums + rows.begin * kBlock,
                                                kBlock);
    }
  }

  // What to ask for while rows `n` are multiplied: rows further down, or the next panel of
  // the block, or the next block. Null: none.
  const S* ahead_of(Range block, int64_t n, int64_t k, int64_t end) const {
    const int64_t inputs = min_of(kPanel, p_.inputs - k);
    n += kAhead;
    if (n >= block.end && k + kPanel < p_.inputs) {
      n -= length(block);
      k += kPanel;
    } else if (n >= block.end) {
      k = 0;
    }
    const bool whole = n >= block.begin && n + kUnit <= end && k + inputs <= p_.inputs;
    return whole ? weight(n, k) : nullptr;
  }

  // Takes a copy of the weight with zeros behind its last input.
  template <int kColumns>
  void pad(RowPanel<T, S>* panel) const {
    memset(edge_, 0, kUnit * kPanel * sizeof(S));
    for (int64_t j = 0; j < kColumns; ++j) {
      memcpy(edge_ + j * kPanel, panel->weight + j * panel->stride, panel->inputs * sizeof(S));
    }
    panel->weight = edge_;
    panel->stride = kPanel;
    panel->inputs = ceil_div(panel->inputs, kStep) * kStep;
  }

  const SkinnyLinearParams& p_;
  const PackedInput<Element, T>& input_;
  const S* weight_;
  T* sums_;  // [M, kBlock]
  T* bias_;
  S* edge_;  // [kUnit, kPanel]
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
