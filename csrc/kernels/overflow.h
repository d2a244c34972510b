// A mean of large values whose weighted sum leaves the range of numbers: four values of 1e38 add up
// to more than float32 holds. Sums are divided at the end, so ordinary rows pay nothing for this: a
// row with a sum that is not finite is done once more with smaller weights, in the same order of
// sums, and what was not finite takes the second result. A power of two changes no bit of a mean.
#pragma once

#include "target.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Weights are at most 1, so sums stay finite with up to 2^39 keys.
constexpr double kSmaller = 0x1p-40;

MASKED_ATTN_DEVICE constexpr float largest(float) { return 0x1.fffffep127f; }
MASKED_ATTN_DEVICE constexpr double largest(double) { return 0x1.fffffffffffffp1023; }
MASKED_ATTN_DEVICE constexpr float smallest_normal(float) { return 0x1p-126f; }
MASKED_ATTN_DEVICE constexpr double smallest_normal(double) { return 0x1p-1022; }

template <class T>
MASKED_ATTN_DEVICE inline bool is_finite(T x) {
  return x - x == T{0};
}

// Exactly 0 where it would be denormal: those are slow, and too small to count. NaN stays NaN.
template <class T>
MASKED_ATTN_DEVICE inline T smaller_weight(T weight) {
  const T small = weight * static_cast<T>(kSmaller);
  return small < smallest_normal(T{}) ? T{0} : small;
}

// `first` is an element of the first result, `small` of the second, both divided by the sum of the
// weights. A mean of finite values is finite, so its rounding must not leave the range either. The
// second is NaN where an Inf met a weight that has become 0; the first knows better then.
template <class T>
MASKED_ATTN_DEVICE inline T mended(T first, T small) {
  if (is_finite(first) || small != small) return first;
  const T mean = small * static_cast<T>(1 / kSmaller);
  if (is_finite(mean) || !is_finite(small)) return mean;
  return small < T{0} ? -largest(T{}) : largest(T{});
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
