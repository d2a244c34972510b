// The functions that may follow a linear layer, of our own: an element has the same bits wherever
// it lies in a vector or behind the last one.
#pragma once

#include <math.h>

#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// 1 / (1 + e^-x), from e^-|x|, which cannot overflow.
template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one = Vec<T>::broadcast(T{1});
  const Vec<T> small = exp(negative_abs(x));
  return select_negative(x, small, one) / (one + small);
}

template <class T>
inline Vec<T> silu(Vec<T> x) {
  return x * sigmoid(x);
}

// 0.5 x (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks and
// Gimpel 2016, section 2).
template <class T>
inline Vec<T> gelu_tanh(Vec<T> x) {
  constexpr double kTwice = 1.5957691216057308;  // 2 sqrt(2 / pi)
  const Vec<T> cubic = Vec<T>::broadcast(static_cast<T>(kTwice * 0.044715));
  const Vec<T> linear = Vec<T>::broadcast(static_cast<T>(kTwice));
  return x * sigmoid(x * fma(cubic, x * x, linear));
}

// The normal distribution's weight below -|x|: e^(-x^2 / 2) by a polynomial in 1 / (1 + 0.35 |x|)
// (the form of Abramowitz and Stegun 7.1.26, fitted for the relative error up to |x| = 14.5, where
// the result is no normal number any more: 3.2e-8).
inline Vec<float> normal_tail(Vec<float> x) {
  const Vec<float> one = Vec<float>::broadcast(1.0f);
  const Vec<float> t = one / fma(negative_abs(x), Vec<float>::broadcast(-0.35f), one);
  Vec<float> y = Vec<float>::broadcast(-0x1.ddb992p-6f);
  y = fma(y, t, Vec<float>::broadcast(0x1.26fap-3f));
  y = fma(y, t, Vec<float>::broadcast(-0x1.05fafap-2f));
  y = fma(y, t, Vec<float>::broadcast(0x1.464a18p-3f));
  y = fma(y, t, Vec<float>::broadcast(-0x1.7c5346p-6f));
  y = fma(y, t, Vec<float>::broadcast(0x1.b0582ep-4f));
  y = fma(y, t, Vec<float>::broadcast(0x1.eac9a4p-4f));
  y = fma(y, t, Vec<float>::broadcast(0x1.1e70c4p-3f));
  y = fma(y, t, Vec<float>::broadcast(0x1.1df1c6p-3f));
  return y * t * exp(x * x * Vec<float>::broadcast(-0.5f));
}

inline Vec<double> normal_tail(Vec<double> x) {
  double lanes[Vec<double>::kLanes];
  negative_abs(x).store(lanes);
  for (double& lane : lanes) lane = 0.5 * erfc(lane * -0.7071067811865476);
  return Vec<double>::load(lanes);
}

template <class T>
inline Vec<T> gelu(Vec<T> x) {
  const Vec<T> tail = normal_tail(x);
  return x * select_negative(x, tail, Vec<T>::broadcast(T{1}) - tail);
}

// NaN stays NaN.
template <class T>
inline Vec<T> relu(Vec<T> x) {
  return max(Vec<T>::broadcast(T{0}), x);
}

template <class T>
inline Vec<T> activate(Activation activation, Vec<T> x) {
  switch (activation) {
    case Activation::kGeluTanh:
      return gelu_tanh(x);
    case Activation::kGelu:
      return gelu(x);
    case Activation::kSilu:
      return silu(x);
    case Activation::kRelu:
      return relu(x);
    case Activation::kNone:
      break;
  }
  return x;
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
