// A small matrix product in registers: C = A B, or C += A B. Each element is the sum of short
// chains of multiply-adds in the order of the depth, whatever block it falls into: the fixed order
// makes a row's bits independent of its neighbours, the short chains keep rounding errors small.
#pragma once

#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Rows of one register block. Six rows by `kBlockVectors` vectors leave room for the operands in 16
// (AVX2, SSE, NEON) and in 32 (AVX-512) registers.
constexpr int64_t kBlockRows = 6;

template <class T>
struct Matrix {
  T* data;
  int64_t stride;
};

// What the elements of `a` and `b` are: one value each, or two bfloat16 values in a float's place.
struct OneValue {
  template <class T>
  static Vec<T> multiply_add(Vec<T> a, Vec<T> b, Vec<T> c) {
    return fma(a, b, c);
  }
};
struct TwoBFloat16 {
  static Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
    return fma_pairs(a, b, c);
  }
};

template <class Element, class T, int kRows, int kVectors>
inline void block_product(Matrix<const T> a, Matrix<const T> b, int64_t depth, Matrix<T> c,
                          bool accumulate) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  Vec<T> sums[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = Vec<T>::broadcast(T{0});
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> right[kVectors];
    for (int j = 0; j < kVectors; ++j) right[j] = Vec<T>::load(b.data + k * b.stride + j * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> left = Vec<T>::broadcast(a.data[i * a.stride + k]);
      for (int j = 0; j < kVectors; ++j)
        sums[i][j] = Element::multiply_add(left, right[j], sums[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      T* out = c.data + i * c.stride + j * kLanes;
      (accumulate ? Vec<T>::load(out) + sums[i][j] : sums[i][j]).store(out);
    }
  }
}

// Blocks of `kVectors` vectors from column j on, as many as there are. Returns the column behind.
template <class Element, class T, int kRows, int kVectors>
inline int64_t column_blocks(int64_t j, Matrix<const T> a, Matrix<const T> b, int64_t depth,
                             int64_t columns, Matrix<T> c, bool accumulate) {
  constexpr int64_t kColumns = kVectors * Vec<T>::kLanes;
  for (; j + kColumns <= columns; j += kColumns) {
    block_product<Element, T, kRows, kVectors>(a, {b.data + j, b.stride}, depth,
                                               {c.data + j, c.stride}, accumulate);
  }
  return j;
}

template <class Element, class T, int kRows>
inline void row_block_product(Matrix<const T> a, Matrix<const T> b, int64_t depth, int64_t columns,
                              Matrix<T> c, bool accumulate) {
  constexpr int kVectors = Vec<T>::kBlockVectors;
  int64_t j = 0;
  // One or two rows leave registers for twice the columns, and need them: each sum waits for its
  // own last addition.
  if constexpr (kRows <= 2) {
    j = column_blocks<Element, T, kRows, 2 * kVectors>(j, a, b, depth, columns, c, accumulate);
  }
  j = column_blocks<Element, T, kRows, kVectors>(j, a, b, depth, columns, c, accumulate);
  column_blocks<Element, T, kRows, 1>(j, a, b, depth, columns, c, accumulate);
}

// Finds the block that has exactly `rows` rows.
template <class Element, class T, int kRows = kBlockRows>
inline void depth_block_product(Matrix<const T> a, Matrix<const T> b, int64_t rows, int64_t depth,
                                int64_t columns, Matrix<T> c, bool accumulate) {
  if (rows == kRows) {
    row_block_product<Element, T, kRows>(a, b, depth, columns, c, accumulate);
  } else if constexpr (kRows > 1) {
    depth_block_product<Element, T, kRows - 1>(a, b, rows, depth, columns, c, accumulate);
  }
}

// a: [rows, depth], b: [depth, columns], c: [rows, columns]; at most `kBlockRows` rows; `columns`
// is a multiple of the vector length.
template <class Element, class T>
inline void tile_product(Matrix<const T> a, Matrix<const T> b, int64_t rows, int64_t depth,
                         int64_t columns, Matrix<T> c, bool accumulate) {
  int64_t k = 0;
  do {
    const int64_t count = min_of(Vec<T>::kChain, depth - k);
    depth_block_product<Element, T>({a.data + k, a.stride}, {b.data + k * b.stride, b.stride}, rows,
                                    count, columns, c, accumulate || k > 0);
    k += Vec<T>::kChain;
  } while (k < depth);
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
