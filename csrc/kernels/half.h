// float16 and bfloat16 as storage: conversion to and from float, rounding to nearest even.
#pragma once

#include <stdint.h>

#include "target.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

MASKED_ATTN_DEVICE inline float float_from_bits(uint32_t bits) {
  union {
    uint32_t bits;
    float value;
  } cast{bits};
  return cast.value;
}

MASKED_ATTN_DEVICE inline uint32_t bits_from_float(float value) {
  union {
    float value;
    uint32_t bits;
  } cast{value};
  return cast.bits;
}

MASKED_ATTN_DEVICE inline float to_float(float x) { return x; }
MASKED_ATTN_DEVICE inline double to_float(double x) { return x; }

MASKED_ATTN_DEVICE inline float to_float(BFloat16 x) {
  return float_from_bits(static_cast<uint32_t>(x.bits) << 16);
}

MASKED_ATTN_DEVICE inline float to_float(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t shifted = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  if (shifted >= 0x0f800000u) return float_from_bits(sign | 0x7f800000u | shifted);  // Inf, NaN
  if (shifted < 0x00800000u) {
    // A denormal of float16: as a fraction behind 2^-14, which is then taken away. No operand is a
    // denormal of float32, which some threads take for 0.
    const float smallest = float_from_bits(0x38800000u);
    return float_from_bits(sign |
                           bits_from_float(float_from_bits(shifted + 0x38800000u) - smallest));
  }
  const float magnitude = float_from_bits(shifted) * float_from_bits(0x77800000u);  // 2^112
  return float_from_bits(sign | bits_from_float(magnitude));
}

MASKED_ATTN_DEVICE inline void from_float(float x, float* out) { *out = x; }
MASKED_ATTN_DEVICE inline void from_float(double x, double* out) { *out = x; }

MASKED_ATTN_DEVICE inline void from_float(float x, BFloat16* out) {
  const uint32_t bits = bits_from_float(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    out->bits = static_cast<uint16_t>((bits >> 16) | 0x40u);  // a quiet NaN stays NaN
    return;
  }
  out->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

MASKED_ATTN_DEVICE inline void from_float(float x, Half* out) {
  const uint32_t bits = bits_from_float(x);
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude >= 0x47800000u) {  // 65536 and above, Inf, NaN
    half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below the smallest normal float16: let an add round
    half = bits_from_float(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    const uint32_t odd = (magnitude >> 13) & 1u;
    half = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  }
  out->bits = static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u));
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
