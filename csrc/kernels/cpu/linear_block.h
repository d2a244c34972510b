// The register block of linear: some rows of x against a packed strip of outputs, over one panel of
// inputs or a part of it.
#pragma once

#include "linear_element.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class T>
struct StripPanel {
  const T* input;  // [rows, input_stride], packed
  int64_t input_stride;
  const T* weight;  // [steps, kStrip], packed
  int64_t steps;    // of one input, or of two
  T* chain;         // [rows, sum_stride], where it is kept between parts of a panel
  T* total;         // [rows, sum_stride]
  int64_t sum_stride;
  bool begins;   // the chain, from zero
  bool ends;     // the chain, and is added to the total
  bool first;    // the first panel starts the totals, the others are added
  Range asking;  // steps in which memory is asked for
};

// Loops over sums are unrolled by force: else GCC gives the sums a place in memory, too, and writes
// them there before and after each panel.
template <class Element, class T, int kRows>
inline void strip_block(const StripPanel<T>& p, LinesAhead* lines) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  Vec<T> sums[kRows][kStripVectors];
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) {
      sums[i][j] = p.begins ? Vec<T>::broadcast(T{0})
                            : Vec<T>::load(p.chain + i * p.sum_stride + j * kLanes);
    }
  }
  LinesAhead ahead = *lines;
  const T* weight = p.weight;
  for (int64_t step = 0; step < p.steps; ++step, weight += kStrip<T>) {
    if (step >= p.asking.begin && step < p.asking.end) ahead.prefetch();
    Vec<T> right[kStripVectors];
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) right[j] = Vec<T>::load(weight + j * kLanes);
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> left = Vec<T>::broadcast(p.input[i * p.input_stride + step]);
#pragma GCC unroll 32
      for (int j = 0; j < kStripVectors; ++j) {
        sums[i][j] = Element::multiply_add(left, right[j], sums[i][j]);
      }
    }
  }
  *lines = ahead;
  T* out = p.ends ? p.total : p.chain;
  const bool adds = p.ends && !p.first;
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) {
      T* to = out + i * p.sum_stride + j * kLanes;
      (adds ? Vec<T>::load(to) + sums[i][j] : sums[i][j]).store(to);
    }
  }
}

// Finds the block that has exactly `rows` rows.
template <class Element, class T, int kRows = kStripRows<T>>
inline void strip_rows(const StripPanel<T>& p, int64_t rows, LinesAhead* lines) {
  if (rows == kRows) {
    strip_block<Element, T, kRows>(p, lines);
  } else if constexpr (kRows > 1) {
    strip_rows<Element, T, kRows - 1>(p, rows, lines);
  }
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
