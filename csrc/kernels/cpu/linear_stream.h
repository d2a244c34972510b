// linear for very few rows and a weight [K, N], contiguous along the outputs: nothing is packed.
// Some whole rows of the weight at a time are read from end to end, and their products added to
// chains that stay in the first-level cache.
#pragma once

#include "linear_finish.h"
#include "linear_pack.h"
#include "plan.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Rows of the weight that are read side by side, and how far ahead each is asked for.
constexpr int64_t kStreamInputs = 8;
constexpr int64_t kStreamAhead = 24;

template <class T, class S>
struct StreamPart {
  const T* input;   // [rows, cpu::kInputPanel]
  const S* weight;  // [inputs, row_stride]
  int64_t row_stride;
  int64_t outputs;  // whole vectors
  T* chains;        // [rows, stride]
  int64_t stride;
  bool first;     // of a panel: chains begin at zero
  int64_t ahead;  // elements from a weight to the one that is asked for
};

// chains += input * weight for kInputs inputs of kRows rows, kVectors vectors from output n on.
template <int kRows, int kInputs, int kVectors, class T, class S>
inline void stream_vectors(const StreamPart<T, S>& p, int64_t n) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  Vec<T> sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = p.first ? Vec<T>::broadcast(T{0})
                           : Vec<T>::load(p.chains + i * p.stride + n + j * kLanes);
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < kInputs; ++k) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      const S* from = p.weight + k * p.row_stride + n + j * kLanes;
      if (j * kLanes * sizeof(S) % 64 == 0) __builtin_prefetch(from + p.ahead, 0, 2);
      const Vec<T> weight = Vec<T>::load(from);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vec<T> value = Vec<T>::broadcast(p.input[i * cpu::kInputPanel + k]);
        sums[i][j] = fma(value, weight, sums[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j].store(p.chains + i * p.stride + n + j * kLanes);
    }
  }
}

template <int kRows, int kInputs, class T, class S>
inline void stream_inputs(const StreamPart<T, S>& p) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  int64_t n = 0;
  for (; n + 2 * kLanes <= p.outputs; n += 2 * kLanes) stream_vectors<kRows, kInputs, 2>(p, n);
  for (; n < p.outputs; n += kLanes) stream_vectors<kRows, kInputs, 1>(p, n);
}

template <class T, class S>
class LinearStream {
 public:
  static constexpr int64_t kMaxRows = cpu::kStreamRows;

  LinearStream(const LinearParams& p, char* scratch)
      : p_(p), weight_(static_cast<const S*>(p.weight.data)) {
    Arena arena(scratch);
    totals_ = arena.take<T>(kMaxRows * cpu::kStreamOutputs);
    chains_ = arena.take<T>(kMaxRows * cpu::kStreamOutputs);
    input_ = arena.take<T>(kMaxRows * cpu::kInputPanel);
    bias_ = arena.take<T>(cpu::kStreamOutputs);
    edge_ = arena.take<S>(kStreamInputs * Vec<T>::kLanes);
  }

  // Outputs of the last vector that are not there are left to a copy with zeros.
  void run(Range outputs) const {
    for (int64_t n = outputs.begin; n < outputs.end; n += cpu::kStreamOutputs) {
      run_block({n, min_of(n + cpu::kStreamOutputs, outputs.end)});
    }
  }

 private:
  void run_block(Range outputs) const {
    const int64_t stride = ceil_div(length(outputs), Vec<T>::kLanes) * Vec<T>::kLanes;
    for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel) {
      add_panel(outputs, {k, min_of(k + cpu::kInputPanel, p_.inputs)}, stride);
      for (int64_t i = 0; i < p_.rows * stride; i += Vec<T>::kLanes) {
        const Vec<T> chain = Vec<T>::load(chains_ + i);
        (k == 0 ? chain : Vec<T>::load(totals_ + i) + chain).store(totals_ + i);
      }
    }
    load_bias(p_, outputs, stride, bias_);
    finish(p_, {0, p_.rows}, outputs, totals_, stride, bias_);
  }

  void add_panel(Range outputs, Range inputs, int64_t stride) const {
    pack_x<OneInput>(p_, {0, p_.rows}, inputs, input_, cpu::kInputPanel);
    int64_t k = inputs.begin;
    for (; k + kStreamInputs <= inputs.end; k += kStreamInputs) {
      add_inputs<kStreamInputs>(outputs, inputs, k, stride);
    }
    for (; k < inputs.end; ++k) add_inputs<1>(outputs, inputs, k, stride);
  }

  template <int kInputs>
  void add_inputs(Range outputs, Range inputs, int64_t k, int64_t stride) const {
    constexpr int64_t kLanes = Vec<T>::kLanes;
    const int64_t whole = length(outputs) / kLanes * kLanes;
    StreamPart<T, S> part{};
    part.input = input_ + (k - inputs.begin);
    part.weight = weight_ + k * p_.weight.row_stride + outputs.begin;
    part.row_stride = p_.weight.row_stride;
    part.outputs = whole;
    part.chains = chains_;
    part.stride = stride;
    part.first = k == inputs.begin;
    part.ahead = kStreamAhead * p_.weight.row_stride;
    add_rows<kInputs>(part, p_.rows);
    if (whole == length(outputs)) return;
    for (int64_t i = 0; i < kInputs; ++i) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const bool there = whole + j < length(outputs);
        edge_[i * kLanes + j] = there ? part.weight[i * part.row_stride + whole + j] : S{};
      }
    }
    part.weight = edge_;
    part.row_stride = kLanes;
    part.outputs = kLanes;
    part.chains = chains_ + whole;
    add_rows<kInputs>(part, p_.rows);
  }

  // Finds the loop that has exactly `rows` rows.
  template <int kInputs, int kRows = kMaxRows>
  static void add_rows(const StreamPart<T, S>& part, int64_t rows) {
    if (rows == kRows) {
      stream_inputs<kRows, kInputs>(part);
    } else if constexpr (kRows > 1) {
      add_rows<kInputs, kRows - 1>(part, rows);
    }
  }

  const LinearParams& p_;
  const S* weight_;
  T* totals_;  // [rows, outputs in whole vectors]
  T* chains_;  // the same, of one panel
  T* input_;
  T* bias_;
  S* edge_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
