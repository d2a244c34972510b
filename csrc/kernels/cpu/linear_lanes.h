// linear for few rows and a weight [N, K], contiguous along the inputs: rows of x are the lanes.
// Each weight is read once, where it lies, and spread over a vector of rows; nothing of the weight
// is packed or transposed. A lane is the chain of one output of one row.
#pragma once

#include "linear_finish.h"
#include "linear_pack.h"
#include "plan.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Outputs that are added up side by side: with the rows of x they fill the registers.
template <int kVectors>
constexpr int kLaneOutputs = 12 / kVectors;

// Some outputs against all rows of x, over one panel.
template <class T>
struct LanePanel {
  const T* input;   // [inputs, rows in whole vectors], transposed
  const T* weight;  // [outputs, row_stride]
  int64_t row_stride;
  int64_t inputs;
  int64_t ahead;  // elements from a weight to the one that is asked for
  T* total;       // [outputs, rows in whole vectors]
  bool first;     // the first panel starts the totals, the others are added
};

template <int kVectors, int kOutputs, class T>
inline void multiply_lanes(const LanePanel<T>& p) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  constexpr int64_t kLine = 64 / sizeof(T);
  Vec<T> sums[kOutputs][kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kOutputs; ++n) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[n][v] = Vec<T>::broadcast(T{0});
  }
  const T* input = p.input;
  const auto add = [&](int64_t k) __attribute__((always_inline)) {
    Vec<T> rows[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) rows[v] = Vec<T>::load(input + v * kLanes);
    input += kVectors * kLanes;
#pragma GCC unroll 16
    for (int n = 0; n < kOutputs; ++n) {
      const Vec<T> weight = Vec<T>::broadcast(p.weight[n * p.row_stride + k]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[n][v] = fma(rows[v], weight, sums[n][v]);
    }
  };
  int64_t k = 0;
  for (; k + kLine <= p.inputs; k += kLine) {
#pragma GCC unroll 16
    for (int n = 0; n < kOutputs; ++n) {
      __builtin_prefetch(p.weight + n * p.row_stride + k + p.ahead, 0, 2);
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < kLine; ++i) add(k + i);
  }
  for (; k < p.inputs; ++k) add(k);
#pragma GCC unroll 16
  for (int n = 0; n < kOutputs; ++n) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      T* to = p.total + (n * kVectors + v) * kLanes;
      (p.first ? sums[n][v] : Vec<T>::load(to) + sums[n][v]).store(to);
    }
  }
}

// Finds the loop that has exactly `outputs` outputs.
template <int kVectors, class T, int kOutputs = kLaneOutputs<kVectors>>
inline void lane_outputs(const LanePanel<T>& p, int64_t outputs) {
  if (outputs == kOutputs) {
    multiply_lanes<kVectors, kOutputs>(p);
  } else if constexpr (kOutputs > 1) {
    lane_outputs<kVectors, T, kOutputs - 1>(p, outputs);
  }
}

template <class T>
class LinearLanes {
 public:
  LinearLanes(const LinearParams& p, char* scratch)
      : p_(p), weight_(static_cast<const T*>(p.weight.data)), vectors_(ceil_div(p.rows, kLanes)) {
    Arena arena(scratch);
    input_ = arena.take<T>(p.inputs * vectors_ * kLanes);
    sums_ = arena.take<T>(kBlock * vectors_ * kLanes);
    totals_ = arena.take<T>(p.rows * kBlock);
    row_ = arena.take<T>(cpu::kInputPanel);
    bias_ = arena.take<T>(kBlock);
  }

  void run(Range outputs) const {
    transpose_x();
    for (int64_t n = outputs.begin; n < outputs.end; n += kBlock) {
      run_block({n, min_of(n + kBlock, outputs.end)}, outputs.end);
    }
  }

 private:
  static constexpr int64_t kLanes = Vec<T>::kLanes;
  static constexpr int64_t kBlock = cpu::kLaneBlock;

  // [inputs, rows], zeros behind the last row.
  void transpose_x() const {
    const int64_t stride = vectors_ * kLanes;
    for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel) {
      const Range panel{k, min_of(k + cpu::kInputPanel, p_.inputs)};
      for (int64_t m = 0; m < stride; ++m) {
        T* to = input_ + k * stride + m;
        if (m < p_.rows) {
          pack_x<OneInput>(p_, {m, m + 1}, panel, row_, cpu::kInputPanel);
          for (int64_t i = 0; i < length(panel); ++i) to[i * stride] = row_[i];
        } else {
          for (int64_t i = 0; i < length(panel); ++i) to[i * stride] = T{0};
        }
      }
    }
  }

  void run_block(Range outputs, int64_t end) const {
    switch (vectors_) {
      case 1:
        return run_vectors<1>(outputs, end);
      case 2:
        return run_vectors<2>(outputs, end);
      default:
        return run_vectors<3>(outputs, end);
    }
  }

  template <int kVectors>
  void run_vectors(Range outputs, int64_t end) const {
    constexpr int64_t kStride = kVectors * kLanes;
    constexpr int64_t kOutputs = kLaneOutputs<kVectors>;
    LanePanel<T> panel{};
    panel.row_stride = p_.weight.row_stride;
    for (int64_t n = outputs.begin; n < outputs.end; n += kOutputs) {
      const int64_t some = min_of(kOutputs, outputs.end - n);
      panel.total = sums_ + (n - outputs.begin) * kStride;
      // The same place of further rows, as far as there are any.
      panel.ahead = n + 2 * kOutputs <= end ? kOutputs * p_.weight.row_stride : 0;
      for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel) {
        panel.input = input_ + k * kStride;
        panel.weight = weight_ + n * p_.weight.row_stride + k;
        panel.inputs = min_of(cpu::kInputPanel, p_.inputs - k);
        panel.first = k == 0;
        lane_outputs<kVectors>(panel, some);
      }
    }
    for (int64_t m = 0; m < p_.rows; ++m) {
      for (int64_t n = 0; n < length(outputs); ++n) {
        totals_[m * kBlock + n] = sums_[n * kStride + m];
      }
    }
    load_bias(p_, outputs, kBlock, bias_);
    finish(p_, {0, p_.rows}, outputs, totals_, kBlock, bias_);
  }

  const LinearParams& p_;
  const T* weight_;
  int64_t vectors_;  // of rows
  T* input_;         // [inputs, rows in whole vectors]
  T* sums_;          // [kBlock, rows in whole vectors]
  T* totals_;        // [rows, kBlock]
  T* row_;
  T* bias_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
