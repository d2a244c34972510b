// What linear multiplies: one stored value of an input and one of a weight, or pairs of bfloat16.
// All loops over the same element add up in the same order, and this is what the promise of equal
// bits rests on: the inputs are cut into panels of `cpu::kInputPanel`; within a panel an output is
// one chain of multiply-adds in the order of the inputs, from zero; totals of the panels are added
// in their order, then the bias. In tiles the inputs of a panel are added in groups (tiles.h).
#pragma once

#include "tile_product.h"
#include "tiles.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// One input at a time, in the type of computation.
struct OneInput : OneValue {
  static constexpr int64_t kInputs = 1;
  static constexpr int64_t kGroup = 1;
  struct Scope {};  // what must live while sums are computed
};

// Two bfloat16 inputs in a float's place; behind an odd last one stands a zero.
struct TwoInputs : TwoBFloat16 {
  static constexpr int64_t kInputs = 2;
  static constexpr int64_t kGroup = 2;
  struct Scope {};
};

// The same in groups of 32 inputs, as tiles take them; zeros fill the last group.
struct TilePairs {
  static constexpr int64_t kInputs = 2;
  static constexpr int64_t kGroup = kTileInputs;
  using Scope = TileScope;
};

// Steps of an element, or of two, that hold so many inputs.
template <class Element>
inline int64_t steps_of(int64_t inputs) {
  return ceil_div(inputs, Element::kGroup) * (Element::kGroup / Element::kInputs);
}

// Vectors of a strip of outputs, and rows of x against it in a register block: sums and operands
// fill 16 or 32 registers. Where there are tiles a strip is two of them, side by side.
constexpr int kStripVectors = kHasTiles ? 2 * kTileColumns / Vec<float>::kLanes : 2;
template <class T>
constexpr int kStripRows = Vec<T>::kBlockVectors == 4 ? 12 : 6;
template <class T>
constexpr int64_t kStrip = kStripVectors * Vec<T>::kLanes;

// Memory that is needed soon, asked for a few cache lines at a time between other work: some rows,
// which may lie apart. Into the second-level cache: the first can wait for too few lines at once.
class LinesAhead {
 public:
  LinesAhead() = default;
  LinesAhead(const void* begin, int64_t row_bytes, int64_t stride_bytes, int64_t rows,
             int64_t at_a_time)
      : row_(static_cast<const char*>(begin)),
        row_bytes_(row_bytes),
        stride_(stride_bytes),
        rows_(row_bytes > 0 ? rows : 0),
        at_a_time_(at_a_time) {}

  // Inlined by force: GCC drops the call of a function that does nothing but prefetch.
  __attribute__((always_inline)) void prefetch() {
    for (int64_t i = 0; i < at_a_time_ && rows_ > 0; ++i) {
      __builtin_prefetch(row_ + offset_, 0, 2);
      offset_ += 64;
      if (offset_ < row_bytes_) continue;
      offset_ = 0;
      row_ += stride_;
      --rows_;
    }
  }

 private:
  const char* row_ = nullptr;
  int64_t row_bytes_ = 0;
  int64_t stride_ = 0;
  int64_t rows_ = 0;
  int64_t at_a_time_ = 1;
  int64_t offset_ = 0;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
