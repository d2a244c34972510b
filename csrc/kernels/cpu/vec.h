// The vector of the instruction set that this file is compiled for: `Vec<float>`, `Vec<double>`.
// Each set gives the primitives; what can be written with them is below, once.
#pragma once

#include <stdint.h>

#if defined(__AVX512F__)
#include "vec_avx512.h"
#elif defined(__AVX2__)
#include "vec_avx2.h"
#else
#include "vec_generic.h"
#endif

#include "../mask.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Whether this set multiplies pairs of bfloat16 values: two products in the time of one.
#if defined(__AVX512BF16__)
constexpr bool kHasPairs = true;
#else
constexpr bool kHasPairs = false;
inline Vec<float> fma_pairs(Vec<float>, Vec<float>, Vec<float> c) { return c; }  // never called
#endif

template <class T>
inline void store_four_sums(const Vec<T>* sums, T* out) {
  for (int i = 0; i < 4; ++i) out[i] = reduce_add(sums[i]);
}

inline float negative_infinity(float) { return -__builtin_inff(); }
inline double negative_infinity(double) { return -__builtin_inf(); }

// e^x for x <= 0 (or NaN, which stays NaN); exactly 0 where the result would be about to leave the
// normal numbers, because denormals are slow and would let a masked batch differ from an unmasked
// one. x = n ln2 + r with ln2 in two parts (Cody and Waite), then the minimax fit of e^r on
// [-ln2/2, ln2/2] with p(0) = 1: its relative error is 2.1e-8 with these coefficients.
inline Vec<float> exp(Vec<float> x) {
  const Vec<float> n = round(x * Vec<float>::broadcast(1.4426950408889634f));
  Vec<float> r = fma(n, Vec<float>::broadcast(-0.693359375f), x);
  r = fma(n, Vec<float>::broadcast(2.12194440e-4f), r);
  Vec<float> y = Vec<float>::broadcast(0x1.709b6cp-10f);
  y = fma(y, r, Vec<float>::broadcast(0x1.12903ep-7f));
  y = fma(y, r, Vec<float>::broadcast(0x1.55515ep-5f));
  y = fma(y, r, Vec<float>::broadcast(0x1.5553c2p-3f));
  y = fma(y, r, Vec<float>::broadcast(0x1.000002p-1f));
  y = fma(y, r, Vec<float>::broadcast(1.0f));
  y = fma(y, r, Vec<float>::broadcast(1.0f));
  return zero_if_less(scale_by_power_of_two(y, n), x, Vec<float>::broadcast(-87.33f));
}

inline Vec<double> exp(Vec<double> x) {
  double lanes[Vec<double>::kLanes];
  x.store(lanes);
  for (double& lane : lanes) lane = lane < -708.39 ? 0.0 : __builtin_exp(lane);
  return Vec<double>::load(lanes);
}

template <class T>
inline T exp_scalar(T x) {
  T lanes[Vec<T>::kLanes];
  exp(Vec<T>::broadcast(x)).store(lanes);
  return lanes[0];
}

// The first `count` lanes from memory, 0 in the others; nothing behind them is read.
template <class T, class S>
inline Vec<T> load_first(const S* source, int64_t count) {
  T lanes[Vec<T>::kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = static_cast<T>(to_float(source[i]));
  return Vec<T>::load(lanes);
}

// out[i] = reduce_add(sums[i]). Sets may have a faster way for four of them, with the same bits.
template <int kCount, class T>
inline void store_sums(const Vec<T>* sums, T* out) {
  if constexpr (kCount >= 4) {
    store_four_sums(sums, out);
    store_sums<kCount - 4>(sums + 4, out + 4);
  } else {
    for (int i = 0; i < kCount; ++i) out[i] = reduce_add(sums[i]);
  }
}

// Converts `count` stored values to the type of computation.
template <class S, class T>
inline void load_values(const S* source, int64_t count, T* out) {
  int64_t i = 0;
  for (; i + Vec<T>::kLanes <= count; i += Vec<T>::kLanes) Vec<T>::load(source + i).store(out + i);
  for (; i < count; ++i) out[i] = static_cast<T>(to_float(source[i]));
}

// Stores `factor * values` in the type of storage.
template <class T, class S>
inline void store_scaled(const T* values, T factor, int64_t count, S* out) {
  const Vec<T> factors = Vec<T>::broadcast(factor);
  int64_t i = 0;
  for (; i + Vec<T>::kLanes <= count; i += Vec<T>::kLanes) {
    (Vec<T>::load(values + i) * factors).store(out + i);
  }
  for (; i < count; ++i) from_float(values[i] * factor, out + i);
}

template <class T>
inline void scale_in_place(T* values, T factor, int64_t count) {
  store_scaled(values, factor, count, values);
}

template <class T>
inline void fill(T* values, T value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = value;
}

// Calls `body(static_cast<S*>(data))` with the stored type S of a tensor that is computed in T.
template <class T, class Body>
inline void with_stored_type(const TensorView& view, const Body& body) {
  if constexpr (sizeof(T) == sizeof(double)) {
    body(static_cast<double*>(view.data));
  } else if (view.dtype == DType::kFloat16) {
    body(static_cast<Half*>(view.data));
  } else if (view.dtype == DType::kBFloat16) {
    body(static_cast<BFloat16*>(view.data));
  } else {
    body(static_cast<float*>(view.data));
  }
}

inline int64_t row_offset(const TensorView& view, int64_t batch, int64_t head, int64_t row) {
  return batch * view.batch_stride + head * view.head_stride + row * view.row_stride;
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
