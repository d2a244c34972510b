// What becomes of scores before masks: softcap, then ALiBi (Press et al. 2021, "Train short, test
// long"). Element by element, so a score has the same bits at every place of every path.
#pragma once

#include "../scores.h"
#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Right to two units of the last place, near 0 too: 1 - 2 e^-2x / (1 + e^-2x) would cancel there,
// so up to 0.75 it is an odd polynomial, the minimax fit of the relative error. NaN stays NaN.
inline Vec<float> tanh(Vec<float> x) {
  const Vec<float> one = Vec<float>::broadcast(1.0f);
  const Vec<float> size = negative_abs(x);
  const Vec<float> small = exp(size + size);
  const Vec<float> rest = (small + small) / (one + small);
  const Vec<float> far = select_negative(x, rest - one, one - rest);
  const Vec<float> z = x * x;
  Vec<float> y = Vec<float>::broadcast(0x1.c753cap-10f);
  y = fma(y, z, Vec<float>::broadcast(-0x1.f5d36ep-8f));
  y = fma(y, z, Vec<float>::broadcast(0x1.5f785ap-6f));
  y = fma(y, z, Vec<float>::broadcast(-0x1.b97d3cp-5f));
  y = fma(y, z, Vec<float>::broadcast(0x1.110db8p-3f));
  y = fma(y, z, Vec<float>::broadcast(-0x1.55554ap-2f));
  const Vec<float> near = fma(y * z, x, x);
  return select_negative(size + Vec<float>::broadcast(0.75f), far, near);
}

inline Vec<double> tanh(Vec<double> x) {
  double lanes[Vec<double>::kLanes];
  x.store(lanes);
  for (double& lane : lanes) lane = __builtin_tanh(lane);
  return Vec<double>::load(lanes);
}

template <class T>
class ScoreShape {
 public:
  explicit ScoreShape(const AttentionParams& params)
      : caps_(params.softcap != 0),
        bends_(caps_ || params.alibi_slopes.data != nullptr),
        cap_(softcap_of<T>(params)),
        slopes_(params.alibi_slopes) {}

  // Whether scores change at all.
  bool bends() const { return bends_; }

  // Of one query of a head with keys side by side. The first key lies `distance` before the query,
  // a negative one behind it. `columns` is a multiple of the vector length.
  __attribute__((noinline)) void bend(int64_t row, int64_t head, int64_t distance, int64_t columns,
                                      T* scores) const {
    if (caps_) cap(columns, scores);
    if (slopes_.data == nullptr) return;
    lean(head_value(slopes_, T{0}, row, head), distance, columns, scores);
  }

 private:
  static constexpr int64_t kLanes = Vec<T>::kLanes;

  void cap(int64_t columns, T* scores) const {
    const Vec<T> cap = Vec<T>::broadcast(cap_);
    const Vec<T> straight = Vec<T>::broadcast(cap_ * straight_share(T{}));
    for (int64_t j = 0; j < columns; j += kLanes) {
      const Vec<T> score = Vec<T>::load(scores + j);
      const Vec<T> bent = cap * tanh(score / cap);
      select_negative(straight + negative_abs(score), bent, score).store(scores + j);
    }
  }

  // Distances are whole numbers, exact in float32 up to 2^24.
  static void lean(T slope, int64_t distance, int64_t columns, T* scores) {
    T lanes[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<T>(i);
    const Vec<T> ramp = Vec<T>::load(lanes);
    const Vec<T> slopes = Vec<T>::broadcast(slope);
    for (int64_t j = 0; j < columns; j += kLanes) {
      const Vec<T> away = Vec<T>::broadcast(static_cast<T>(distance - j)) - ramp;
      fma(negative_abs(away), slopes, Vec<T>::load(scores + j)).store(scores + j);
    }
  }

  bool caps_;
  bool bends_;
  T cap_;
  HeadValues slopes_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
