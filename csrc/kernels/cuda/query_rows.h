// What one warp keeps of some queries while keys go by: maximum, sum and weighted values. A lane
// holds the weight of one key at a time, and some columns of the values: lane, lane + 32, ...
#pragma once

#include "../overflow.h"
#include "warp.h"

namespace masked_attn::cuda {

// Queries of one warp; fewer in float64, which takes twice the registers and the shared memory.
template <class T>
constexpr int kWarpRows = sizeof(T) == sizeof(double) ? 4 : 8;

template <class T>
struct SoftmaxPart {
  T max;
  T sum;
};

// What scores are measured from; 0 while nothing above -inf was seen.
template <class T>
MASKED_ATTN_INLINE T base_of(T max) {
  return max == negative_infinity(T{}) ? T{0} : max;
}

// `e^(from - to)` for from <= to: what an accumulator is worth after the maximum moved.
template <class T>
MASKED_ATTN_INLINE T rescale_factor(T from, T to) {
  return from == to || from == negative_infinity(T{}) ? T{1} : weight_of(from - to);
}

// The factor that turns the weighted sum of values into the output. A sink takes weight as a score
// does; -inf is none. Both are measured from the larger one, so that no weight overflows.
template <class T>
MASKED_ATTN_INLINE T normalizer_of(SoftmaxPart<T> part, T sink) {
  if (part.sum == T{0}) return T{0};
  if (sink == negative_infinity(T{})) return T{1} / part.sum;
  const T base = base_of(part.max);
  if (!(sink > base)) return T{1} / (part.sum + weight_of(sink - base));
  const T factor = weight_of(base - sink);
  return factor / (part.sum * factor + T{1});
}

// Of the scores alone, without a sink.
template <class T>
MASKED_ATTN_INLINE T logsumexp_of(SoftmaxPart<T> part) {
  if (part.sum == T{0}) return negative_infinity(T{});
  return base_of(part.max) + static_cast<T>(log(static_cast<double>(part.sum)));
}

template <class T, int kColumns>
class QueryRows {
 public:
  static constexpr int kRows = kWarpRows<T>;

  // The first `count` rows are used. `small`: weights are made smaller, to mend rows (overflow.h).
  MASKED_ATTN_METHOD void reset(int count, bool small) {
    count_ = count;
    small_ = small;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      max_[i] = negative_infinity(T{});
      sum_[i] = T{0};
      seen_[i] = 0;
      weight_[i] = T{0};
#pragma unroll
      for (int c = 0; c < kColumns; ++c) out_[i][c] = T{0};
    }
  }

  // The lane's score of row i becomes its weight. The sum stays apart for each lane.
  MASKED_ATTN_METHOD void soften(int i, T score, bool seen) {
    const bool counts = seen && score == score;  // a NaN never becomes the maximum
    const T top = warp_max(counts ? score : negative_infinity(T{}));
    if (top > max_[i]) {
      rescale(i, rescale_factor(max_[i], top));
      max_[i] = top;
    }
    weight_[i] = seen ? weight_of(score - base_of(max_[i])) : T{0};
    sum_[i] = sum_[i] + weight_[i];
    if (small_) weight_[i] = smaller_weight(weight_[i]);
    seen_[i] = ballot(seen);
  }

  // Bit l is set if the key of lane l was seen.
  MASKED_ATTN_METHOD uint32_t seen(int i) const { return seen_[i]; }

  // Adds one key's values, weighted. `lane` holds the weights of the key. Where values may not be
  // finite, rows that do not see the key leave them alone, because 0 * NaN is NaN.
  MASKED_ATTN_METHOD void add_values(const T (&values)[kColumns], int lane, bool finite) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i >= count_) break;
      const T weight = shuffle(weight_[i], lane);
      if (!finite && !(seen_[i] >> lane & 1)) continue;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) out_[i][c] = multiply_add(weight, values[c], out_[i][c]);
    }
  }

  // Adds the lanes' sums; every lane gets the same.
  MASKED_ATTN_METHOD SoftmaxPart<T> total(int i) const { return {max_[i], warp_sum(sum_[i])}; }
  MASKED_ATTN_METHOD const T (&out(int i) const)[kColumns] { return out_[i]; }

 private:
  MASKED_ATTN_METHOD void rescale(int i, T factor) {
    sum_[i] = sum_[i] * factor;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) out_[i][c] = out_[i][c] * factor;
  }

  int count_;
  bool small_;
  T max_[kRows];
  T sum_[kRows];
  T weight_[kRows];
  uint32_t seen_[kRows];
  T out_[kRows][kColumns];
};

}  // namespace masked_attn::cuda
