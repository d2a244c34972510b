// linear in tiles, for bfloat16 on the set `amx`: 32 rows of x by a strip of 32 outputs, four tiles
// of sums. Very few rows leave most of a tile empty and are multiplied by vectors, in the same
// sums.
#pragma once

#include "linear_block.h"
#include "plan.h"
#include "policy.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Rows of x that take one strip at a time, as equal as can be.
template <class Element, class T>
inline int64_t rows_of_block(int64_t rows) {
  if (Element::kGroup == kTileInputs) return 2 * kTileRows;
  return ceil_div(rows, ceil_div(rows, kStripRows<T>));
}

#if MASKED_ATTN_HAS_TILES
static_assert(cpu::kPackedRows % (2 * kTileRows) == 0, "tiles read whole blocks of packed rows");
static_assert(cpu::kInputPanel % kTileInputs == 0 && kStrip<float> == 2 * kTileColumns);

inline void ask_at(const StripPanel<float>& p, int64_t step, LinesAhead* lines) {
  if (step >= p.asking.begin && step < p.asking.end) lines->prefetch();
}

// Tiles 0 to 3 are sums (two per 16 rows), 4 and 5 rows of x, 6 and 7 the strip.
template <int kRowTiles>
inline void multiply_tiles(const StripPanel<float>& p, Tiles* tiles, LinesAhead* lines) {
  tiles->zero<0>();
  tiles->zero<1>();
  if constexpr (kRowTiles == 2) {
    tiles->zero<2>();
    tiles->zero<3>();
  }
  LinesAhead ahead = *lines;
  for (int64_t step = 0; step < p.steps; step += kTileInputs / 2) {
    const float* weight = p.weight + step * kStrip<float>;
    tiles->load<6>(weight, kStrip<float>);
    tiles->load<7>(weight + kTileColumns, kStrip<float>);
    tiles->load<4>(p.input + step, p.input_stride);
    tiles->multiply_add<0, 4, 6>();
    tiles->multiply_add<1, 4, 7>();
    if constexpr (kRowTiles == 2) {
      tiles->load<5>(p.input + kTileRows * p.input_stride + step, p.input_stride);
      tiles->multiply_add<2, 5, 6>();
      tiles->multiply_add<3, 5, 7>();
    }
    for (int64_t i = step; i < step + kTileInputs / 2; ++i) ask_at(p, i, &ahead);
  }
  *lines = ahead;
}

template <int kRowTiles>
inline void store_tiles(const Tiles& tiles, float* to, int64_t stride) {
  tiles.store<0>(to, stride);
  tiles.store<1>(to + kTileColumns, stride);
  if constexpr (kRowTiles == 2) {
    tiles.store<2>(to + kTileRows * stride, stride);
    tiles.store<3>(to + kTileRows * stride + kTileColumns, stride);
  }
}

// At most 16 * kRowTiles rows. Packed rows behind them hold anything, and so do their sums.
template <int kRowTiles>
inline void tile_block(const StripPanel<float>& p, int64_t rows, LinesAhead* lines) {
  constexpr int64_t kStride = kStrip<float>;
  Tiles tiles;
  multiply_tiles<kRowTiles>(p, &tiles, lines);
  if (p.first && rows == kRowTiles * kTileRows) {
    store_tiles<kRowTiles>(tiles, p.total, p.sum_stride);
    return;
  }
  alignas(64) float sums[kRowTiles * kTileRows * kStride];
  store_tiles<kRowTiles>(tiles, sums, kStride);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < kStride; j += Vec<float>::kLanes) {
      const Vec<float> sum = Vec<float>::load(sums + i * kStride + j);
      float* out = p.total + i * p.sum_stride + j;
      (p.first ? sum : Vec<float>::load(out) + sum).store(out);
    }
  }
}

// Pairs of each row, split once for the whole strip.
template <int kRows>
struct SplitRows {
  alignas(64) float even[kRows][cpu::kInputPanel / 2];
  alignas(64) float odd[kRows][cpu::kInputPanel / 2];

  explicit SplitRows(const StripPanel<float>& p) {
    for (int i = 0; i < kRows; ++i) {
      for (int64_t step = 0; step < p.steps; step += Vec<float>::kLanes) {
        const Vec<float> pairs = Vec<float>::load(p.input + i * p.input_stride + step);
        even_of_pairs(pairs).store(even[i] + step);
        odd_of_pairs(pairs).store(odd[i] + step);
      }
    }
  }
};

// totals += one product of a tile, from step `group` on.
template <int kRows>
inline void add_group(const StripPanel<float>& p, const SplitRows<kRows>& rows, int64_t group,
                      Vec<float> (&totals)[kRows][kStripVectors], LinesAhead* lines) {
  Vec<float> even[kRows][kStripVectors];
  Vec<float> odd[kRows][kStripVectors];
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) even[i][j] = odd[i][j] = Vec<float>::broadcast(0.0f);
  }
  const float* weight = p.weight + group * kStrip<float>;
  for (int64_t step = group; step < group + kTileInputs / 2; ++step, weight += kStrip<float>) {
    ask_at(p, step, lines);
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) {
      const Vec<float> pairs = Vec<float>::load(weight + j * Vec<float>::kLanes);
      const Vec<float> first = even_of_pairs(pairs);
      const Vec<float> second = odd_of_pairs(pairs);
#pragma GCC unroll 32
      for (int i = 0; i < kRows; ++i) {
        even[i][j] = fma(Vec<float>::broadcast(rows.even[i][step]), first, even[i][j]);
        odd[i][j] = fma(Vec<float>::broadcast(rows.odd[i][step]), second, odd[i][j]);
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) totals[i][j] = totals[i][j] + (even[i][j] + odd[i][j]);
  }
}

// The sums of tiles for exactly `kRows` rows, in registers.
template <int kRows>
inline void vector_block(const StripPanel<float>& p, LinesAhead* lines) {
  const SplitRows<kRows> rows(p);
  Vec<float> totals[kRows][kStripVectors];
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) totals[i][j] = Vec<float>::broadcast(0.0f);
  }
  LinesAhead ahead = *lines;
  for (int64_t group = 0; group < p.steps; group += kTileInputs / 2) {
    add_group(p, rows, group, totals, &ahead);
  }
  *lines = ahead;
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kStripVectors; ++j) {
      float* out = p.total + i * p.sum_stride + j * Vec<float>::kLanes;
      (p.first ? totals[i][j] : Vec<float>::load(out) + totals[i][j]).store(out);
    }
  }
}

template <int kRows = kVectorRows>
inline void vector_rows(const StripPanel<float>& p, int64_t rows, LinesAhead* lines) {
  if (rows == kRows) {
    vector_block<kRows>(p, lines);
  } else if constexpr (kRows > 1) {
    vector_rows<kRows - 1>(p, rows, lines);
  }
}

// At most 32 rows against one strip, over a whole panel, inside a TileScope.
inline void multiply_in_tiles(const StripPanel<float>& p, int64_t rows, LinesAhead* lines) {
  if (rows <= kVectorRows) return vector_rows(p, rows, lines);
  if (rows <= kTileRows) return tile_block<1>(p, rows, lines);
  tile_block<2>(p, rows, lines);
}
#endif

// At most `rows_of_block` rows against one strip.
template <class Element, class T>
inline void multiply_strip(const StripPanel<T>& p, int64_t rows, LinesAhead* lines) {
#if MASKED_ATTN_HAS_TILES
  if constexpr (Element::kGroup == kTileInputs) {
    multiply_in_tiles(p, rows, lines);
  } else
#endif
  {
    strip_rows<Element>(p, rows, lines);
  }
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
