// How far a result may be from the truth, in one place. The truth is computed in double from the
// rounded inputs, so only the kernel's own rounding counts:
//
// - A score is a sum of products. Its error is about eps times the sum of their magnitudes, `S`.
//   The error of a score is the relative error of its weight.
// - The exponential, the running sum and the normalisation each cost a few eps. For float64 the
//   truth itself costs as much.
// - An output is a mean of visible values, so its error scales with the largest of them, `V`.
// - Storing costs half a step of the storage dtype.
//
// eps is that of the dtype of computation: float32, or float64 for float64.
#pragma once

#include <algorithm>
#include <cmath>

#include "support/tensors.h"

namespace masked_attn_test {

// From 1 to the next value.
inline double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-52;
    case DType::kFloat32:
      return 0x1p-23;
    case DType::kFloat16:
      return 0x1p-10;
    default:
      return 0x1p-7;
  }
}

// The smallest normal number, and with it the error of everything that is cleared below it.
inline double smallest_normal(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-1022;
    case DType::kFloat16:
      return 0x1p-14;
    default:
      return 0x1p-126;
  }
}

inline DType compute_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// The relative error of a weight whose scores have size S.
inline double weight_bound(DType dtype, double score_size) {
  return epsilon(compute_dtype(dtype)) * (8 + 2 * score_size);
}

inline double storage_bound(DType dtype, double truth) {
  if (dtype == compute_dtype(dtype)) return 0;
  return 0.5 * epsilon(dtype) * std::max(std::fabs(truth), smallest_normal(dtype)) * 1.01;
}

inline double output_bound(DType dtype, double truth, double score_size, double value_size) {
  return weight_bound(dtype, score_size) * value_size + storage_bound(dtype, truth);
}

inline double softmax_bound(DType dtype, double truth, double score_size) {
  return weight_bound(dtype, score_size) * truth + storage_bound(dtype, truth) +
         smallest_normal(compute_dtype(dtype));
}

inline double logsumexp_bound(DType dtype, double truth, double score_size) {
  return weight_bound(dtype, score_size) + epsilon(compute_dtype(dtype)) * std::fabs(truth);
}

}  // namespace masked_attn_test
