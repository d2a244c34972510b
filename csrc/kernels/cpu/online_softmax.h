// The running maximum and sum of a softmax whose scores arrive tile by tile (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018), and the only home of the rule for
// rows that see nothing: their sum stays 0, their output is 0, their log-sum-exp is -inf.
#pragma once

#include <math.h>

#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Replaces the scores whose bit is not set by -inf. `columns` is a multiple of the vector length.
template <class T>
inline void hide_masked(T* scores, uint64_t bits, int64_t columns) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const Vec<T> hidden = Vec<T>::broadcast(negative_infinity(T{}));
  for (int64_t j = 0; j < columns; j += kLanes) {
    select(bits >> j, Vec<T>::load(scores + j), hidden).store(scores + j);
  }
}

template <class T>
inline T max_of_scores(const T* scores, int64_t columns) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  Vec<T> best = Vec<T>::load(scores);
  for (int64_t j = kLanes; j < columns; j += kLanes) best = max(best, Vec<T>::load(scores + j));
  return reduce_max(best);
}

// Replaces scores by `e^(score - max)` and returns their sum, lane by lane, so that trailing masked
// vectors change no bit of it. A NaN score stays NaN.
template <class T>
inline Vec<T> exponentiate(T* scores, T max, int64_t columns, Vec<T> sum) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const Vec<T> base = Vec<T>::broadcast(max == negative_infinity(T{}) ? T{0} : max);
  for (int64_t j = 0; j < columns; j += kLanes) {
    const Vec<T> weight = exp(Vec<T>::load(scores + j) - base);
    weight.store(scores + j);
    sum = sum + weight;
  }
  return sum;
}

// `e^(from - to)` for from <= to: what an accumulator is worth after the maximum moved.
template <class T>
inline T rescale_factor(T from, T to) {
  if (from == to || from == negative_infinity(T{})) return T{1};
  return exp_scalar(from - to);
}

template <class T>
struct OnlineSoftmax {
  T max;
  T sum;

  void reset() {
    max = negative_infinity(T{});
    sum = T{0};
  }

  // Turns one tile of masked scores into weights. Returns the factor by which everything that was
  // accumulated with earlier weights must be multiplied; exactly 1 if the maximum did not move.
  T update(T* scores, int64_t columns) {
    const T factor = raise_max(max_of_scores(scores, columns));
    sum += reduce_add(exponentiate(scores, max, columns, Vec<T>::broadcast(T{0})));
    return factor;
  }

  // Takes in a part that was accumulated apart. Returns the factor of what is already here and, in
  // `part_factor`, that of the part.
  T merge(const OnlineSoftmax& part, T* part_factor) {
    const T factor = raise_max(part.max);
    *part_factor = rescale_factor(part.max, max);
    sum += part.sum * *part_factor;
    return factor;
  }

  // The factor that turns the weighted sum of values into the output.
  T normalizer() const { return sum == T{0} ? T{0} : T{1} / sum; }

  // With a sink, which takes weight as a score does; -inf is none. Both are measured from the
  // larger one, so that no weight overflows.
  T normalizer(T sink) const {
    if (sink == negative_infinity(T{}) || sum == T{0}) return normalizer();
    if (!(sink > base())) return T{1} / (sum + exp_scalar(sink - base()));
    const T factor = exp_scalar(base() - sink);
    return factor / (sum * factor + T{1});
  }

  // Of the scores alone, without a sink.
  T logsumexp() const {
    if (sum == T{0}) return negative_infinity(T{});
    return base() + static_cast<T>(__builtin_log(static_cast<double>(sum)));
  }

 private:
  // What weights are measured from; 0 while nothing above -inf was seen.
  T base() const { return max == negative_infinity(T{}) ? T{0} : max; }

  // A NaN never becomes the maximum; it reaches the sum through its weight.
  T raise_max(T candidate) {
    if (!(candidate > max)) return T{1};
    const T factor = rescale_factor(max, candidate);
    max = candidate;
    sum *= factor;
    return factor;
  }
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
