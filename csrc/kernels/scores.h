// What `AttentionParams` say of scores beside the scale, for every kernel on every device: the
// numbers of one head, and a softcap that the type of computation can hold.
#pragma once

#include "overflow.h"
#include "params.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// That of one head of one row, or `none`.
template <class T>
MASKED_ATTN_DEVICE inline T head_value(const HeadValues& values, T none, int64_t row,
                                       int64_t head) {
  if (values.data == nullptr) return none;
  return static_cast<const T*>(values.data)[row * values.batch_stride + head];
}

// One beyond the range of T would turn scores into NaN; the largest number of T bends hardly any.
template <class T>
MASKED_ATTN_DEVICE inline T softcap_of(const AttentionParams& p) {
  if (p.softcap > static_cast<double>(largest(T{}))) return largest(T{});
  const T cap = static_cast<T>(p.softcap);
  return cap < smallest_normal(T{}) ? smallest_normal(T{}) : cap;
}

// Up to this share of the cap, tanh(x) = x - x^3 / 3 ... rounds to x, so scores stay as they are: a
// large cap has the bits of none, and quotients never come near the denormal numbers.
MASKED_ATTN_DEVICE constexpr float straight_share(float) { return 0x1p-12f; }
MASKED_ATTN_DEVICE constexpr double straight_share(double) { return 0x1p-27; }

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
