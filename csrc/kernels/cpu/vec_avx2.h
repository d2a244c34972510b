// Vectors of 256 bits, with FMA and F16C. Partial vectors do not exist: tails are scalar.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "../half.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  static constexpr int64_t kLanes = 8;
  // The register block of tile_product.h: rows by vectors, chosen to fill the register file;
  // `kChain` is its longest chain of additions.
  static constexpr int kBlockVectors = 2;
  static constexpr int64_t kChain = 64;
  __m256 v;

  static Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const Half* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Vec load(const BFloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(Half* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  void store(BFloat16* p) const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
};

inline Vec<float> operator+(Vec<float> a, Vec<float> b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec<float> operator-(Vec<float> a, Vec<float> b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec<float> operator*(Vec<float> a, Vec<float> b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec<float> operator/(Vec<float> a, Vec<float> b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
// Lane i holds the pair (first[i], second[i]).
inline Vec<float> load_pairs(const BFloat16* first, const BFloat16* second) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
  return {
      _mm256_castsi256_ps(_mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b)))};
}
inline Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec<float> round(Vec<float> a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// Right where the result is a normal number; exp clears the other lanes.
inline Vec<float> scale_by_power_of_two(Vec<float> a, Vec<float> power) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(power.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), exponent))};
}
// 0 in the lanes where x < limit, else a.
inline Vec<float> zero_if_less(Vec<float> a, Vec<float> x, Vec<float> limit) {
  return {_mm256_and_ps(_mm256_cmp_ps(x.v, limit.v, _CMP_NLT_UQ), a.v)};
}
// Lane i of a where bit i is set, else of b.
inline Vec<float> select(uint64_t bits, Vec<float> a, Vec<float> b) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i word = _mm256_set1_epi32(static_cast<int32_t>(bits & 0xff));
  const __m256i seen = _mm256_cmpeq_epi32(_mm256_and_si256(word, lane), lane);
  return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(seen))};
}
inline Vec<float> negative_abs(Vec<float> a) { return {_mm256_or_ps(a.v, _mm256_set1_ps(-0.0f))}; }
// a in the lanes where x has its sign bit, else b.
inline Vec<float> select_negative(Vec<float> x, Vec<float> a, Vec<float> b) {
  return {_mm256_blendv_ps(b.v, a.v, x.v)};
}
inline void transpose(Vec<float> (&rows)[8]) {
  __m256 pairs[8], quads[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}
inline float reduce_max(Vec<float> a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_add(Vec<float> a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

// Four at once: the halves, then lanes 0 and 2, 1 and 3, then these two, as in reduce_add.
inline void store_four_sums(const Vec<float>* a, float* out) {
  __m128 x[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm_add_ps(_mm256_castps256_ps128(a[i].v), _mm256_extractf128_ps(a[i].v, 1));
  }
  const __m128 y = _mm_add_ps(_mm_unpacklo_ps(x[0], x[1]), _mm_unpackhi_ps(x[0], x[1]));
  const __m128 z = _mm_add_ps(_mm_unpacklo_ps(x[2], x[3]), _mm_unpackhi_ps(x[2], x[3]));
  _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(y, z), _mm_movehl_ps(z, y)));
}

template <>
struct Vec<double> {
  static constexpr int64_t kLanes = 4;
  static constexpr int kBlockVectors = 2;
  static constexpr int64_t kChain = 64;
  __m256d v;

  static Vec broadcast(double x) { return {_mm256_set1_pd(x)}; }
  static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
};

inline Vec<double> operator+(Vec<double> a, Vec<double> b) { return {_mm256_add_pd(a.v, b.v)}; }
inline Vec<double> operator-(Vec<double> a, Vec<double> b) { return {_mm256_sub_pd(a.v, b.v)}; }
inline Vec<double> operator*(Vec<double> a, Vec<double> b) { return {_mm256_mul_pd(a.v, b.v)}; }
inline Vec<double> operator/(Vec<double> a, Vec<double> b) { return {_mm256_div_pd(a.v, b.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return {_mm256_fmadd_pd(a.v, b.v, c.v)};
}
inline Vec<double> max(Vec<double> a, Vec<double> b) { return {_mm256_max_pd(a.v, b.v)}; }
inline Vec<double> select(uint64_t bits, Vec<double> a, Vec<double> b) {
  const __m256i lane = _mm256_setr_epi64x(1, 2, 4, 8);
  const __m256i word = _mm256_set1_epi64x(static_cast<int64_t>(bits & 0xf));
  const __m256i seen = _mm256_cmpeq_epi64(_mm256_and_si256(word, lane), lane);
  return {_mm256_blendv_pd(b.v, a.v, _mm256_castsi256_pd(seen))};
}
inline Vec<double> negative_abs(Vec<double> a) { return {_mm256_or_pd(a.v, _mm256_set1_pd(-0.0))}; }
inline Vec<double> select_negative(Vec<double> x, Vec<double> a, Vec<double> b) {
  return {_mm256_blendv_pd(b.v, a.v, x.v)};
}
inline void transpose(Vec<double> (&rows)[4]) {
  const __m256d a = _mm256_unpacklo_pd(rows[0].v, rows[1].v);
  const __m256d b = _mm256_unpackhi_pd(rows[0].v, rows[1].v);
  const __m256d c = _mm256_unpacklo_pd(rows[2].v, rows[3].v);
  const __m256d d = _mm256_unpackhi_pd(rows[2].v, rows[3].v);
  rows[0].v = _mm256_permute2f128_pd(a, c, 0x20);
  rows[1].v = _mm256_permute2f128_pd(b, d, 0x20);
  rows[2].v = _mm256_permute2f128_pd(a, c, 0x31);
  rows[3].v = _mm256_permute2f128_pd(b, d, 0x31);
}
inline double reduce_max(Vec<double> a) {
  __m128d x = _mm_max_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
}
inline double reduce_add(Vec<double> a) {
  __m128d x = _mm_add_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
