// Products of bfloat16 in tiles (Intel AMX). A tile is 16 rows of 64 bytes: sixteen sums, or
// sixteen pairs of bfloat16. A product takes 32 inputs, and this is the definition of all sums on
// the set `amx`, whatever loop computes them:
//
//   even = a[0] b[0], fused with a[2] b[2], ... a[30] b[30];  odd likewise from a[1] b[1] on
//   total = total + (even + odd)
//
// with rounding to nearest even, and 0 in place of denormal operands and results. `tdpbf16ps` was
// measured to do exactly this (docs/numerics.md). Without that instruction, in tests, the same
// code runs on a stand-in in plain code.
#pragma once

#include <string.h>

#include "vec.h"

#if defined(__AMX_BF16__)
#define MASKED_ATTN_HAS_TILES 1
#elif defined(MASKED_ATTN_TILE_STAND_IN)
#define MASKED_ATTN_HAS_TILES 1
#else
#define MASKED_ATTN_HAS_TILES 0
#endif

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

constexpr bool kHasTiles = MASKED_ATTN_HAS_TILES;
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;  // sums, or pairs
constexpr int64_t kTileInputs = 32;   // of one product

#if MASKED_ATTN_HAS_TILES

// Operands and results that are denormal count as 0 while one of these lives, as they do in tiles.
// The compiler may not move what touches memory across its ends.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) {
    constexpr uint32_t kFlushToZero = 0x8000;
    constexpr uint32_t kDenormalsAreZero = 0x40;
    _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
    asm volatile("" ::: "memory");
  }
  ~FlushDenormals() {
    asm volatile("" ::: "memory");
    _mm_setcsr(saved_);
  }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  uint32_t saved_;
};

// The two bfloat16 of each lane, as float32.
typedef uint32_t PairBits __attribute__((vector_size(sizeof(Vec<float>))));
inline Vec<float> even_of_pairs(Vec<float> pairs) {
  PairBits bits;
  memcpy(&bits, &pairs, sizeof(bits));
  bits <<= 16;
  memcpy(&pairs, &bits, sizeof(bits));
  return pairs;
}
inline Vec<float> odd_of_pairs(Vec<float> pairs) {
  PairBits bits;
  memcpy(&bits, &pairs, sizeof(bits));
  bits &= 0xffff0000u;
  memcpy(&pairs, &bits, sizeof(bits));
  return pairs;
}

#if defined(__AMX_BF16__)

// The tiles of this thread, from here to the end of the scope: eight whole ones. Written in
// assembly because the intrinsics of GCC 12 do not say that they read memory.
class TileScope {
 public:
  TileScope() {
    alignas(64) uint8_t config[64] = {1};  // the palette; then, from 16 on, bytes and rows of each
    for (int64_t tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;
      config[48 + tile] = kTileRows;
    }
    asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
  }
  ~TileScope() { asm volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  FlushDenormals flush_;
};

// Inside a TileScope. Strides are in floats.
struct Tiles {
  template <int kTile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  void load(const float* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride * 4), "i"(kTile)
                 : "memory");
  }
  template <int kTile>
  void store(float* to, int64_t stride) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride * 4), "i"(kTile)
                 : "memory");
  }
  // total += a b: a [16 rows, 16 pairs], b [16 pairs, 16 columns].
  template <int kTotal, int kA, int kB>
  void multiply_add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kTotal), "i"(kA), "i"(kB));
  }
};

#else

using TileScope = FlushDenormals;

struct Tiles {
  float tile[8][kTileRows][kTileColumns];

  template <int kTile>
  void zero() {
    memset(tile[kTile], 0, sizeof(tile[kTile]));
  }
  template <int kTile>
  void load(const float* from, int64_t stride) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      memcpy(tile[kTile][i], from + i * stride, sizeof(tile[kTile][i]));
    }
  }
  template <int kTile>
  void store(float* to, int64_t stride) const {
    for (int64_t i = 0; i < kTileRows; ++i) {
      memcpy(to + i * stride, tile[kTile][i], sizeof(tile[kTile][i]));
    }
  }
  template <int kTotal, int kA, int kB>
  void multiply_add() {
    for (int64_t i = 0; i < kTileRows; ++i) {
      for (int64_t j = 0; j < kTileColumns; j += Vec<float>::kLanes) {
        Vec<float> even = Vec<float>::broadcast(0.0f);
        Vec<float> odd = even;
        for (int64_t k = 0; k < kTileColumns; ++k) {
          const Vec<float> a = Vec<float>::broadcast(tile[kA][i][k]);
          const Vec<float> b = Vec<float>::load(tile[kB][k] + j);
          even = fma(even_of_pairs(a), even_of_pairs(b), even);
          odd = fma(odd_of_pairs(a), odd_of_pairs(b), odd);
        }
        float* total = tile[kTotal][i] + j;
        (Vec<float>::load(total) + (even + odd)).store(total);
      }
    }
  }
};

#endif
#else
struct TileScope {};
#endif

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
