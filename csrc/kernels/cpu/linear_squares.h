// linear for very few rows and a weight [N, K], contiguous along the inputs: nothing is packed.
// Squares of the weight, as many inputs as outputs, are transposed in registers and multiplied
// there, so that each lane is the chain of one output.
#pragma once

#include "linear_finish.h"
#include "linear_pack.h"
#include "plan.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Some outputs, one vector, against some rows of x, over one panel.
template <class T, class S>
struct SquarePanel {
  const T* input;  // [rows, input_stride], packed
  int64_t input_stride;
  WeightPart<S> weight;  // a vector of outputs, at most
  int64_t ahead;         // elements from a weight to the one that is asked for
  T* total;              // [rows, total_stride]
  int64_t total_stride;
  bool first;  // the first panel starts the totals, the others are added
};

template <class Element, int kRows, class T, class S>
inline void multiply_squares(const SquarePanel<T, S>& p) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const WeightPart<S>& w = p.weight;
  const int64_t steps = ceil_div(w.inputs, Element::kInputs);
  const int64_t whole = w.outputs == kLanes ? w.inputs / Element::kInputs / kLanes * kLanes : 0;
  Vec<T> sums[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) sums[i] = Vec<T>::broadcast(T{0});
  for (int64_t step = 0; step < whole; step += kLanes) {
    Vec<T> square[kLanes];
#pragma GCC unroll 16
    for (int64_t j = 0; j < kLanes; ++j) {
      const S* from = w.data + j * w.row_stride + step * Element::kInputs;
      __builtin_prefetch(from + p.ahead, 0, 2);
      square[j] = load_steps<Element, T>(from);
    }
    transpose(square);
#pragma GCC unroll 16
    for (int64_t j = 0; j < kLanes; ++j) {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vec<T> value = Vec<T>::broadcast(p.input[i * p.input_stride + step + j]);
        sums[i] = Element::multiply_add(value, square[j], sums[i]);
      }
    }
  }
  for (int64_t step = whole; step < steps; ++step) {
    T lanes[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = packed_weight<Element, T>(w, step, j);
    const Vec<T> weight = Vec<T>::load(lanes);
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> value = Vec<T>::broadcast(p.input[i * p.input_stride + step]);
      sums[i] = Element::multiply_add(value, weight, sums[i]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    T* to = p.total + i * p.total_stride;
    (p.first ? sums[i] : Vec<T>::load(to) + sums[i]).store(to);
  }
}

// Finds the loop that has exactly `rows` rows.
template <class Element, class T, class S, int kRows = cpu::kSquareRows>
inline void square_rows(const SquarePanel<T, S>& p, int64_t rows) {
  if (rows == kRows) {
    multiply_squares<Element, kRows>(p);
  } else if constexpr (kRows > 1) {
    square_rows<Element, T, S, kRows - 1>(p, rows);
  }
}

template <class Element, class T, class S>
class LinearSquares {
 public:
  LinearSquares(const LinearParams& p, char* scratch)
      : p_(p),
        weight_(static_cast<const S*>(p.weight.data)),
        input_stride_(ceil_div(p.inputs, cpu::kInputPanel) * cpu::kInputPanel / Element::kInputs) {
    Arena arena(scratch);
    input_ = arena.take<T>(p.rows * input_stride_);
    totals_ = arena.take<T>(p.rows * kLanes);
    bias_ = arena.take<T>(kLanes);
  }

  void run(Range outputs) const {
    pack_x<Element>(p_, {0, p_.rows}, {0, p_.inputs}, input_, input_stride_);
    for (int64_t n = outputs.begin; n < outputs.end; n += kLanes) {
      run_vector({n, min_of(n + kLanes, outputs.end)}, outputs.end);
    }
  }

 private:
  static constexpr int64_t kLanes = Vec<T>::kLanes;

  void run_vector(Range outputs, int64_t end) const {
    SquarePanel<T, S> panel{};
    panel.input_stride = input_stride_;
    panel.total = totals_;
    panel.total_stride = kLanes;
    // The same place of further rows, as far as there are any.
    panel.ahead = outputs.end + kLanes <= end ? kLanes * p_.weight.row_stride : 0;
    for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel) {
      panel.input = input_ + k / Element::kInputs;
      panel.weight = {weight_ + outputs.begin * p_.weight.row_stride + k, p_.weight.row_stride,
                      min_of(cpu::kInputPanel, p_.inputs - k), length(outputs), false};
      panel.first = k == 0;
      square_rows<Element>(panel, p_.rows);
    }
    load_bias(p_, outputs, kLanes, bias_);
    finish(p_, {0, p_.rows}, outputs, totals_, kLanes, bias_);
  }

  const LinearParams& p_;
  const S* weight_;
  int64_t input_stride_;
  T* input_;   // [rows, inputs], all panels
  T* totals_;  // [rows, kLanes]
  T* bias_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
