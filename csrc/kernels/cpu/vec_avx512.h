// Vectors of 512 bits. Partial vectors do not exist here: buffers are padded, tails are scalar.
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
  static constexpr int64_t kLanes = 16;
  // The register block of tile_product.h: rows by vectors, chosen to fill the register file;
  // `kChain` is its longest chain of additions.
  static constexpr int kBlockVectors = 4;
  static constexpr int64_t kChain = 64;
  __m512 v;

  static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const Half* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec load(const BFloat16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(Half* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  void store(BFloat16* p) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i high = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  }
};

inline Vec<float> operator+(Vec<float> a, Vec<float> b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec<float> operator-(Vec<float> a, Vec<float> b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec<float> operator*(Vec<float> a, Vec<float> b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec<float> operator/(Vec<float> a, Vec<float> b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
#if defined(__AVX512BF16__)
// Each lane of `a` and `b` holds two bfloat16 values: c + a0 b0 + a1 b1.
inline Vec<float> fma_pairs(Vec<float> a, Vec<float> b, Vec<float> c) {
  return {_mm512_dpbf16_ps(c.v, (__m512bh)a.v, (__m512bh)b.v)};
}
#endif
// Lane i holds the pair (first[i], second[i]).
inline Vec<float> load_pairs(const BFloat16* first, const BFloat16* second) {
  const __m512i order = _mm512_set_epi16(                            //
      31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
      23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second));
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  return {_mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both))};
}
inline Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec<float> round(Vec<float> a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Vec<float> scale_by_power_of_two(Vec<float> a, Vec<float> power) {
  return {_mm512_scalef_ps(a.v, power.v)};
}
// 0 in the lanes where x < limit, else a.
inline Vec<float> zero_if_less(Vec<float> a, Vec<float> x, Vec<float> limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), a.v)};
}
// Lane i of a where bit i is set, else of b.
inline Vec<float> select(uint64_t bits, Vec<float> a, Vec<float> b) {
  return {_mm512_mask_mov_ps(b.v, static_cast<__mmask16>(bits), a.v)};
}
inline Vec<float> negative_abs(Vec<float> a) { return {_mm512_or_ps(a.v, _mm512_set1_ps(-0.0f))}; }
// a in the lanes where x has its sign bit, else b.
inline Vec<float> select_negative(Vec<float> x, Vec<float> a, Vec<float> b) {
  return {_mm512_mask_mov_ps(b.v, _mm512_movepi32_mask(_mm512_castps_si512(x.v)), a.v)};
}
// Elements change places within blocks of four, then the blocks do.
inline void transpose(Vec<float> (&rows)[16]) {
  __m512 pairs[16], quads[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0x88);
    const __m512 c = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0xdd);
    const __m512 d = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0xdd);
    rows[i].v = _mm512_shuffle_f32x4(a, b, 0x88);
    rows[i + 4].v = _mm512_shuffle_f32x4(c, d, 0x88);
    rows[i + 8].v = _mm512_shuffle_f32x4(a, b, 0xdd);
    rows[i + 12].v = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
}
inline float reduce_max(Vec<float> a) { return _mm512_reduce_max_ps(a.v); }
inline float reduce_add(Vec<float> a) { return _mm512_reduce_add_ps(a.v); }

// Four at once: the halves, then their halves, then lanes 0 and 2, 1 and 3, then these two, as in
// reduce_add.
inline void store_four_sums(const Vec<float>* a, float* out) {
  const auto halves = [](__m512 b, __m512 c) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(b, c, 0x44), _mm512_shuffle_f32x4(b, c, 0xee));
  };
  const __m512 first = halves(a[0].v, a[1].v);
  const __m512 second = halves(a[2].v, a[3].v);
  const __m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(first, second, 0x88),
                                 _mm512_shuffle_f32x4(first, second, 0xdd));
  const __m512 y = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
  const __m512 z = _mm512_add_ps(y, _mm512_permute_ps(y, 0xb1));
  const __m512i firsts = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, z)));
}

template <>
struct Vec<double> {
  static constexpr int64_t kLanes = 8;
  static constexpr int kBlockVectors = 4;
  static constexpr int64_t kChain = 64;
  __m512d v;

  static Vec broadcast(double x) { return {_mm512_set1_pd(x)}; }
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
};

inline Vec<double> operator+(Vec<double> a, Vec<double> b) { return {_mm512_add_pd(a.v, b.v)}; }
inline Vec<double> operator-(Vec<double> a, Vec<double> b) { return {_mm512_sub_pd(a.v, b.v)}; }
inline Vec<double> operator*(Vec<double> a, Vec<double> b) { return {_mm512_mul_pd(a.v, b.v)}; }
inline Vec<double> operator/(Vec<double> a, Vec<double> b) { return {_mm512_div_pd(a.v, b.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return {_mm512_fmadd_pd(a.v, b.v, c.v)};
}
inline Vec<double> max(Vec<double> a, Vec<double> b) { return {_mm512_max_pd(a.v, b.v)}; }
inline Vec<double> select(uint64_t bits, Vec<double> a, Vec<double> b) {
  return {_mm512_mask_mov_pd(b.v, static_cast<__mmask8>(bits), a.v)};
}
inline Vec<double> negative_abs(Vec<double> a) { return {_mm512_or_pd(a.v, _mm512_set1_pd(-0.0))}; }
inline Vec<double> select_negative(Vec<double> x, Vec<double> a, Vec<double> b) {
  return {_mm512_mask_mov_pd(b.v, _mm512_movepi64_mask(_mm512_castpd_si512(x.v)), a.v)};
}
inline void transpose(Vec<double> (&rows)[8]) {
  __m512d pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm512_unpacklo_pd(rows[i].v, rows[i + 1].v);
    pairs[i + 1] = _mm512_unpackhi_pd(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 2; ++i) {
    const __m512d a = _mm512_shuffle_f64x2(pairs[i], pairs[i + 2], 0x88);
    const __m512d b = _mm512_shuffle_f64x2(pairs[i + 4], pairs[i + 6], 0x88);
    const __m512d c = _mm512_shuffle_f64x2(pairs[i], pairs[i + 2], 0xdd);
    const __m512d d = _mm512_shuffle_f64x2(pairs[i + 4], pairs[i + 6], 0xdd);
    rows[i].v = _mm512_shuffle_f64x2(a, b, 0x88);
    rows[i + 2].v = _mm512_shuffle_f64x2(c, d, 0x88);
    rows[i + 4].v = _mm512_shuffle_f64x2(a, b, 0xdd);
    rows[i + 6].v = _mm512_shuffle_f64x2(c, d, 0xdd);
  }
}
inline double reduce_max(Vec<double> a) { return _mm512_reduce_max_pd(a.v); }
inline double reduce_add(Vec<double> a) { return _mm512_reduce_add_pd(a.v); }

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
