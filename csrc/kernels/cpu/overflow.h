// ../overflow.h for the rows of the CPU kernels.
#pragma once

#include "../overflow.h"
#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// x * 0 is NaN for NaN and Inf, and 0 for everything else.
template <class T>
inline bool all_finite(const T* values, int64_t count) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  constexpr int64_t kChains = 4;  // one chain would wait for each addition
  const Vec<T> zero = Vec<T>::broadcast(T{0});
  Vec<T> sums[kChains] = {zero, zero, zero, zero};
  int64_t i = 0;
  for (; i + kChains * kLanes <= count; i += kChains * kLanes) {
    for (int64_t c = 0; c < kChains; ++c) {
      sums[c] = fma(Vec<T>::load(values + i + c * kLanes), zero, sums[c]);
    }
  }
  for (; i + kLanes <= count; i += kLanes) sums[0] = fma(Vec<T>::load(values + i), zero, sums[0]);
  if (i < count) sums[1] = fma(load_first<T>(values + i, count - i), zero, sums[1]);
  return reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])) == T{0};
}

// Whether weighted values need to be added up again. Where the sum of the weights is not finite,
// a score was not, and the result shows it.
template <class T>
inline bool overflowed(const T* sums, int64_t count, T weight_sum) {
  return !all_finite(sums, count) && is_finite(weight_sum);
}

template <class T>
inline void make_smaller(T* weights, int64_t count) {
  for (int64_t j = 0; j < count; ++j) weights[j] = smaller_weight(weights[j]);
}

// Mends the results that `store_scaled` left in `out`, with sums of smaller weights.
template <class T, class S>
inline void mend_stored(const T* sums, T normalizer, int64_t count, S* out) {
  for (int64_t d = 0; d < count; ++d) {
    const T first = static_cast<T>(to_float(out[d]));
    if (!is_finite(first)) from_float(mended(first, sums[d] * normalizer), out + d);
  }
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
