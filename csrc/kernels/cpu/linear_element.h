// What skinny_linear shares between its two weight layouts: how the inputs are packed and
// multiplied, and how finished sums become outputs.
#pragma once

#include "plan.h"
#include "tile_product.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// One input at a time.
struct OneInput : OneValue {
  static constexpr int64_t kInputs = 1;

  template <class T, class W>
  static Vec<T> load_column(const W* weight, int64_t) {
    return Vec<T>::load(weight);
  }
  template <class T, class W>
  static Vec<T> load_row(const W* weight) {
    return Vec<T>::load(weight);
  }
};

// Two bfloat16 inputs in a float's place. Of a [K, N] weight they lie in two rows.
struct TwoInputs : TwoBFloat16 {
  static constexpr int64_t kInputs = 2;

  template <class T, class W>
  static Vec<T> load_column(const W* weight, int64_t stride) {
    return load_pairs(weight, weight + stride);
  }
  template <class T, class W>
  static Vec<T> load_row(const W* weight) {
    return Vec<T>::load(reinterpret_cast<const T*>(weight));
  }
};

// The sums of one register block. Its loops are unrolled by force: else GCC gives the sums a place
// in memory, too, and writes them there before and after each panel.
template <class T, int kRows, int kColumns>
class SumBlock {
 public:
  SumBlock() {
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int j = 0; j < kColumns; ++j) sums_[i][j] = Vec<T>::broadcast(T{0});
    }
  }

  // Adds `input(i) * weight(j)`.
  template <class Element, class Weight, class Input>
  void add(const Weight& weight, const Input& input) {
    Vec<T> weights[kColumns];
#pragma GCC unroll 32
    for (int j = 0; j < kColumns; ++j) weights[j] = weight(j);
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> value = input(i);
#pragma GCC unroll 32
      for (int j = 0; j < kColumns; ++j) {
        sums_[i][j] = Element::multiply_add(value, weights[j], sums_[i][j]);
      }
    }
  }

  // Calls `body(i, j, sum)` for every sum.
  template <class Body>
  void for_each(const Body& body) const {
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int j = 0; j < kColumns; ++j) body(i, j, sums_[i][j]);
    }
  }

 private:
  Vec<T> sums_[kRows][kColumns];
};

// The rows of x as values of T, or as pairs of bfloat16, in panels [K / panel, M, panel]. Behind
// the last input lie zeros for the rest of a vector.
template <class Element, class T>
class PackedInput {
 public:
  PackedInput(const SkinnyLinearParams& p, int64_t panel)
      : rows_(p.rows), panel_(panel), data_(reinterpret_cast<T*>(p.workspace.shared)) {
    with_stored_type<T>(p.input, [&](const auto* source) {
      for (int64_t k = 0; k < p.inputs; k += panel) {
        for (int64_t m = 0; m < rows_; ++m) {
          pack(source + m * p.input.row_stride + k, min_of(panel, p.inputs - k), row(k, m));
        }
      }
    });
  }

  // Row `m` of the panel that begins with input `k`; the next row follows.
  const T* row(int64_t k, int64_t m) const {
    return data_ + (k * rows_ + m * panel_) / Element::kInputs;
  }

 private:
  T* row(int64_t k, int64_t m) { return data_ + (k * rows_ + m * panel_) / Element::kInputs; }

  template <class S>
  void pack(const S* source, int64_t count, T* out) const {
    const int64_t zeros = ceil_div(count, kPadding) * kPadding - count;
    if constexpr (Element::kInputs == 2) {
      memcpy(out, source, count * sizeof(S));
      memset(reinterpret_cast<char*>(out) + count * sizeof(S), 0, zeros * sizeof(S));
    } else {
      load_values(source, count, out);
      fill(out + count, T{0}, zeros);
    }
  }

  // At least the longest step: a vector of pairs.
  static constexpr int64_t kPadding = 32;

  int64_t rows_;
  int64_t panel_;
  T* data_;
};

// Adds the bias to the finished sums [M, stride] of some outputs and stores them. `scratch` has
// room for their bias.
template <class T>
inline void finish_outputs(const SkinnyLinearParams& p, Range outputs, T* sums, int64_t stride,
                           T* scratch) {
  const int64_t count = length(outputs);
  const bool biased = p.bias.data != nullptr;
  if (biased) {
    with_stored_type<T>(
        p.bias, [&](const auto* bias) { load_values(bias + outputs.begin, count, scratch); });
  }
  with_stored_type<T>(p.out, [&](auto* out) {
    for (int64_t m = 0; m < p.rows; ++m) {
      T* row = sums + m * stride;
      for (int64_t n = 0; biased && n < count; ++n) row[n] += scratch[n];
      store_scaled(row, T{1}, count, out + m * p.out.row_stride + outputs.begin);
    }
  });
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
