// What becomes of a score that is seen, before the softmax: softcap, then ALiBi (Press et al. 2021,
// "Train short, test long"), then the float mask.
#pragma once

#include "../scores.h"
#include "warp.h"

namespace masked_attn::cuda {

MASKED_ATTN_INLINE float tanh_of(float x) { return tanhf(x); }
MASKED_ATTN_INLINE double tanh_of(double x) { return tanh(x); }

// Distances are whole numbers, exact in float32 up to 2^24.
template <class T>
MASKED_ATTN_INLINE T shaped_score(const AttentionParams& p, const MaskView& mask, int64_t batch,
                                  int64_t head, int64_t query, int64_t key, T score) {
  if (p.softcap != 0) {
    const T cap = softcap_of<T>(p);
    // Written so that NaN stays.
    if (!(fabs(score) <= cap * straight_share(T{}))) score = cap * tanh_of(score / cap);
  }
  if (p.alibi_slopes.data != nullptr) {
    const int64_t away = mask.position(query) - key;
    const T distance = static_cast<T>(away < 0 ? -away : away);
    score = multiply_add(-distance, head_value(p.alibi_slopes, T{0}, batch, head), score);
  }
  if (mask.has_bias()) mask.add_bias(batch, head, query, key, 1, &score);
  return score;
}

}  // namespace masked_attn::cuda
