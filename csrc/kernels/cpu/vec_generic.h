// Vectors for any processor: 16 bytes through the compiler's vector extension, so the baseline of
// x86-64 gets SSE2 and ARM gets NEON. Each lane is a plain multiply and add; nothing is fused.
#pragma once

#include <stdint.h>
#include <string.h>

#include "../half.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class T>
struct Vec {
  static constexpr int64_t kLanes = 16 / sizeof(T);
  // The register block of tile_product.h: rows by vectors, chosen to fill the register file;
  // `kChain` is its longest chain of additions.
  static constexpr int kBlockVectors = 2;
  // Shorter than with fused multiply-adds, since here every product is rounded too.
  static constexpr int64_t kChain = 8;
  typedef T Register __attribute__((vector_size(16)));
  Register v;

  static Vec broadcast(T x) { return {x - Register{}}; }
  template <class S>
  static Vec load(const S* p) {
    Vec out;
    for (int64_t i = 0; i < kLanes; ++i) out.v[i] = static_cast<T>(to_float(p[i]));
    return out;
  }
  static Vec load(const T* p) {
    Vec out;
    memcpy(&out.v, p, sizeof(out.v));
    return out;
  }
  template <class S>
  void store(S* p) const {
    for (int64_t i = 0; i < kLanes; ++i) from_float(v[i], p + i);
  }
  void store(T* p) const { memcpy(p, &v, sizeof(v)); }
};

template <class T>
inline Vec<T> operator+(Vec<T> a, Vec<T> b) {
  return {a.v + b.v};
}
template <class T>
inline Vec<T> operator-(Vec<T> a, Vec<T> b) {
  return {a.v - b.v};
}
template <class T>
inline Vec<T> operator*(Vec<T> a, Vec<T> b) {
  return {a.v * b.v};
}
template <class T>
inline Vec<T> operator/(Vec<T> a, Vec<T> b) {
  return {a.v / b.v};
}
template <class T>
inline Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  return {a.v * b.v + c.v};
}
template <class T>
inline Vec<T> max(Vec<T> a, Vec<T> b) {
  return {a.v > b.v ? a.v : b.v};
}

// Lane i holds the pair (first[i], second[i]).
inline Vec<float> load_pairs(const BFloat16* first, const BFloat16* second) {
  BFloat16 pairs[2 * Vec<float>::kLanes];
  for (int64_t i = 0; i < Vec<float>::kLanes; ++i) {
    pairs[2 * i] = first[i];
    pairs[2 * i + 1] = second[i];
  }
  Vec<float> out;
  memcpy(&out.v, pairs, sizeof(out.v));
  return out;
}

typedef int32_t IntRegister __attribute__((vector_size(16)));
typedef int64_t LongRegister __attribute__((vector_size(16)));

// Adding 1.5 * 2^23 leaves no bits for a fraction; right for |a| < 2^22, NaN stays NaN.
inline Vec<float> round(Vec<float> a) {
  const Vec<float> magic = Vec<float>::broadcast(12582912.0f);
  return (a + magic) - magic;
}
// Right where the result is a normal number; exp clears the other lanes. NaN stays NaN.
inline Vec<float> scale_by_power_of_two(Vec<float> a, Vec<float> power) {
  const Vec<float> magic = power + Vec<float>::broadcast(12582912.0f);
  IntRegister exponent, bits;
  memcpy(&exponent, &magic.v, sizeof(exponent));
  memcpy(&bits, &a.v, sizeof(bits));
  bits += exponent << 23;
  Vec<float> out;
  memcpy(&out.v, &bits, sizeof(bits));
  return {power.v == power.v ? out.v : power.v};
}
// 0 in the lanes where x < limit, else a.
inline Vec<float> zero_if_less(Vec<float> a, Vec<float> x, Vec<float> limit) {
  return {x.v < limit.v ? Vec<float>::Register{} : a.v};
}
// Lane i of a where bit i is set, else of b.
inline Vec<float> select(uint64_t bits, Vec<float> a, Vec<float> b) {
  const IntRegister lane = {1, 2, 4, 8};
  const IntRegister word = static_cast<int32_t>(bits & 0xf) - IntRegister{};
  return {(word & lane) == lane ? a.v : b.v};
}
inline Vec<double> select(uint64_t bits, Vec<double> a, Vec<double> b) {
  const LongRegister lane = {1, 2};
  const LongRegister word = static_cast<int64_t>(bits & 0x3) - LongRegister{};
  return {(word & lane) == lane ? a.v : b.v};
}
template <class T>
inline Vec<T> negative_abs(Vec<T> a) {
  return {a.v > typename Vec<T>::Register{} ? -a.v : a.v};
}
// a in the lanes where x < 0, else b.
template <class T>
inline Vec<T> select_negative(Vec<T> x, Vec<T> a, Vec<T> b) {
  return {x.v < typename Vec<T>::Register{} ? a.v : b.v};
}
template <class T, int64_t kLanes>
inline void transpose(Vec<T> (&rows)[kLanes]) {
  for (int64_t i = 0; i < kLanes; ++i) {
    for (int64_t j = i + 1; j < kLanes; ++j) {
      const T above = rows[i].v[j];
      rows[i].v[j] = rows[j].v[i];
      rows[j].v[i] = above;
    }
  }
}
template <class T>
inline T reduce_max(Vec<T> a) {
  T best = a.v[0];
  for (int64_t i = 1; i < Vec<T>::kLanes; ++i) best = a.v[i] > best ? a.v[i] : best;
  return best;
}
template <class T>
inline T reduce_add(Vec<T> a) {
  T sum = a.v[0];
  for (int64_t i = 1; i < Vec<T>::kLanes; ++i) sum += a.v[i];
  return sum;
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
