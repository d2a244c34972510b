// Both products of the tiled attention in tiles (tiles.h), for queries, keys and values of bfloat16
// on the set `amx`: 16 queries by up to 64 keys, or by up to 64 columns of values.
//
// Weights are float32, tiles take bfloat16: a weight is the sum of three parts of 8 bits each, and
// each part has a product of its own. With two parts a few outputs near 0 in a hundred thousand
// are less exact than on other sets.
#pragma once

#include "../overflow.h"
#include "plan.h"
#include "tiles.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Pairs of keys in a key tile, and in a row of the parts of its weights.
constexpr int64_t kKeyPairs = kKeyTile / 2;
constexpr int64_t kPartsStride = cpu::kWeightParts * kKeyPairs;

// Heads that tiles take: whole pairs, and when filled up to 32 no longer than in float32.
inline bool multiplies_tiles(const AttentionParams& p) {
  return p.query.dtype == DType::kBFloat16 && p.key.dtype == DType::kBFloat16 &&
         p.value.dtype == DType::kBFloat16 && p.head_dim % 2 == 0 && p.head_dim >= kTileInputs / 2;
}

#if MASKED_ATTN_HAS_TILES
static_assert(kKeyPairs == 2 * kTileColumns && cpu::kPanel == 4 * kTileColumns);

// Tiles 0 to kTiles - 1 are sums side by side. Rows of 16 keys or columns each.
template <int kTiles>
inline void multiply_side_by_side(const float* left, int64_t left_stride, const float* right,
                                  int64_t right_stride, Tiles* tiles) {
  tiles->load<4>(left, left_stride);
  tiles->load<5>(right, right_stride);
  tiles->multiply_add<0, 4, 5>();
  if constexpr (kTiles > 1) {
    tiles->load<6>(right + kTileColumns, right_stride);
    tiles->multiply_add<1, 4, 6>();
  }
  if constexpr (kTiles > 2) {
    tiles->load<7>(right + 2 * kTileColumns, right_stride);
    tiles->multiply_add<2, 4, 7>();
  }
  if constexpr (kTiles > 3) {
    tiles->load<5>(right + 3 * kTileColumns, right_stride);
    tiles->multiply_add<3, 4, 5>();
  }
}

template <int kTiles>
inline void load_sums(const float* from, int64_t stride, Tiles* tiles) {
  tiles->load<0>(from, stride);
  if constexpr (kTiles > 1) tiles->load<1>(from + kTileColumns, stride);
  if constexpr (kTiles > 2) tiles->load<2>(from + 2 * kTileColumns, stride);
  if constexpr (kTiles > 3) tiles->load<3>(from + 3 * kTileColumns, stride);
}

template <int kTiles>
inline void store_sums(const Tiles& tiles, float* to, int64_t stride) {
  tiles.store<0>(to, stride);
  if constexpr (kTiles > 1) tiles.store<1>(to + kTileColumns, stride);
  if constexpr (kTiles > 2) tiles.store<2>(to + 2 * kTileColumns, stride);
  if constexpr (kTiles > 3) tiles.store<3>(to + 3 * kTileColumns, stride);
}

template <int kCount>
struct Width {
  static constexpr int kTiles = kCount;
};

// Calls body(width) with how many tiles `columns` need, as a type.
template <int kTiles = 4, class Body>
inline void with_tiles(int64_t columns, const Body& body) {
  if constexpr (kTiles > 1) {
    if (columns <= (kTiles - 1) * kTileColumns) return with_tiles<kTiles - 1>(columns, body);
  }
  body(Width<kTiles>{});
}

// scores [16, 64] = queries [16, depth] x keys [depth, 64], both of pairs; `depth` is a multiple of
// 16, and only columns that are needed are computed.
inline void multiply_keys_in_tiles(const float* queries, const float* keys, int64_t depth,
                                   int64_t columns, float* scores) {
  with_tiles(columns, [&](auto width) {
    Tiles tiles;
    tiles.zero<0>();
    tiles.zero<1>();
    tiles.zero<2>();
    tiles.zero<3>();
    for (int64_t d = 0; d < depth; d += kTileColumns) {
      multiply_side_by_side<width.kTiles>(queries + d, depth, keys + d * kKeyTile, kKeyTile,
                                          &tiles);
    }
    store_sums<width.kTiles>(tiles, scores, kKeyTile);
  });
}

// The parts of a row of weights: [kWeightParts, 64] bfloat16. `columns` of them may be other than
// 0; it is a multiple of the vector length.
inline void split_weights(const float* weights, int64_t columns, float* parts) {
  for (int64_t part = 0; part < cpu::kWeightParts; ++part)
    fill(parts + part * kKeyPairs, 0.0f, kKeyPairs);
  BFloat16* out = reinterpret_cast<BFloat16*>(parts);
  for (int64_t j = 0; j < columns; j += Vec<float>::kLanes) {
    Vec<float> rest = Vec<float>::load(weights + j);
    for (int64_t part = 0; part < cpu::kWeightParts; ++part) {
      BFloat16* rounded = out + part * kKeyTile + j;
      rest.store(rounded);
      rest = rest - Vec<float>::load(rounded);
    }
  }
}

// Values as tiles take them, [32 pairs of keys, stride]. `rest` is for all parts of weights but the
// first: the same, or without NaN and Inf, since the signs of those parts are anything.
struct ValuePairs {
  const float* first;
  const float* rest;
  int64_t stride;
};

// out [16, columns] += weights x values, over the first `used` keys.
inline void add_values_in_tiles(const float* parts, const ValuePairs& values, int64_t used,
                                int64_t columns, float* out, int64_t out_stride) {
  for (int64_t d = 0; d < columns; d += cpu::kPanel) {
    with_tiles(columns - d, [&](auto width) {
      Tiles tiles;
      load_sums<width.kTiles>(out + d, out_stride, &tiles);
      for (int64_t pair = 0; 2 * pair < used; pair += kTileColumns) {
        for (int64_t part = 0; part < cpu::kWeightParts; ++part) {
          const float* right = (part == 0 ? values.first : values.rest) + pair * values.stride + d;
          multiply_side_by_side<width.kTiles>(parts + part * kKeyPairs + pair, kPartsStride, right,
                                              values.stride, &tiles);
        }
      }
      store_sums<width.kTiles>(tiles, out + d, out_stride);
    });
  }
}

// Copies `rows` rows of values to pairs of rows, [32, stride]; behind the last row stand zeros.
inline void pack_value_pairs(const BFloat16* source, int64_t source_stride, int64_t rows,
                             int64_t columns, float* out, int64_t stride) {
  for (int64_t j = 0; j < rows / 2; ++j, source += 2 * source_stride, out += stride) {
    int64_t d = 0;
    for (; d + Vec<float>::kLanes <= columns; d += Vec<float>::kLanes) {
      load_pairs(source + d, source + source_stride + d).store(out + d);
    }
    for (; d < columns; ++d) {
      const BFloat16 pair[2] = {source[d], source[source_stride + d]};
      memcpy(out + d, pair, sizeof(pair));
    }
  }
  if (rows % 2 != 0) {
    for (int64_t d = 0; d < columns; ++d) {
      const BFloat16 pair[2] = {source[d], BFloat16{}};
      memcpy(out + d, pair, sizeof(pair));
    }
    out += stride;
  }
  fill(out, 0.0f, (kKeyPairs - ceil_div(rows, 2)) * stride);
}

// `count` is a multiple of 16. Sees what `all_finite` does, in both halves.
inline bool finite_pairs(const float* pairs, int64_t count) {
  const Vec<float> zero = Vec<float>::broadcast(0.0f);
  Vec<float> sums[2] = {zero, zero};
  for (int64_t i = 0; i < count; i += Vec<float>::kLanes) {
    const Vec<float> both = Vec<float>::load(pairs + i);
    sums[0] = fma(even_of_pairs(both), zero, sums[0]);
    sums[1] = fma(odd_of_pairs(both), zero, sums[1]);
  }
  return reduce_add(sums[0] + sums[1]) == 0.0f;
}

// One row against values that hold NaN or Inf: unseen values count as 0. `seen` has room for twice
// [32, 64], `columns` are at most 64. The sums are those of a row among others.
inline void add_seen_values_in_tiles(const float* parts, uint64_t bits, const float* values,
                                     int64_t stride, int64_t used, int64_t columns, float* seen,
                                     float* out) {
  float* rest = seen + kKeyPairs * cpu::kPanel;
  for (int64_t pair = 0; pair < kKeyPairs; ++pair) {
    for (int64_t d = 0; d < columns; ++d) {
      BFloat16 both[2];
      memcpy(both, values + pair * stride + d, sizeof(both));
      for (int64_t i = 0; i < 2; ++i) {
        if (!(bits >> (2 * pair + i) & 1)) both[i] = BFloat16{};
      }
      memcpy(seen + pair * cpu::kPanel + d, both, sizeof(both));
      for (int64_t i = 0; i < 2; ++i) {
        if (!is_finite(to_float(both[i]))) both[i] = BFloat16{};
      }
      memcpy(rest + pair * cpu::kPanel + d, both, sizeof(both));
    }
  }
  alignas(64) float sums[kTileRows * cpu::kPanel] = {};
  memcpy(sums, out, columns * sizeof(float));
  add_values_in_tiles(parts, {seen, rest, cpu::kPanel}, used, columns, sums, cpu::kPanel);
  memcpy(out, sums, columns * sizeof(float));
}

#endif

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
