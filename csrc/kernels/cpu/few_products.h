// Products of a few queries with keys and values where they lie: register blocks of some rows of
// queries by some keys, or by some vectors of values, so that what is loaded and converted serves
// several rows. Each dot product is one chain over the head dimension, each sum of values one chain
// over the keys of a tile: a row has the same bits in every block.
#pragma once

#include "pack.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// The most rows of one register block.
constexpr int kMostBlockRows = 4;

// Keys, or vectors of values, beside so many rows: 16 sums at most in 32 registers, 12 in 16. A row
// alone takes more vectors, for the longer the runs, the faster memory is read.
template <class T>
constexpr int block_columns(int rows) {
  return Vec<T>::kBlockVectors == 2 && rows == 4 ? 2 : 4;
}
constexpr int kLoneVectors = 8;
// All blocks pass over this many keys, or values, then over the next.
constexpr int64_t kPartKeys = 32;

// Calls `body(Constant<n>)` for n = `rows`, which is at most kMostBlockRows.
template <int n>
struct Constant {
  static constexpr int value = n;
};
template <int kMost = kMostBlockRows, class Body>
inline void with_rows(int64_t rows, const Body& body) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return with_rows<kMost - 1>(rows, body);
  }
  body(Constant<kMost>{});
}

// Rows of a small matrix.
template <class T>
struct Rows {
  T* data;
  int64_t stride;

  T* operator[](int64_t i) const { return data + i * stride; }
};

// A reader of rows that asks for the one some way ahead, up to the end of its range: the
// processor's own prefetcher stops at each page.
template <class S>
struct RowReader {
  static constexpr int64_t kAheadBytes = 8192;

  const S* data;  // row 0
  int64_t stride;
  int64_t columns;
  int64_t end;
  int64_t ahead;

  RowReader(const S* rows, int64_t row_stride, int64_t row_columns, int64_t rows_end)
      : data(rows),
        stride(row_stride),
        columns(row_columns),
        end(rows_end),
        ahead(kAheadBytes / max_of(columns * static_cast<int64_t>(sizeof(S)), 64)) {}

  const S* row(int64_t i) const { return data + i * stride; }
  void prefetch(int64_t i, int64_t first_column, int64_t count) const {
    prefetch_row<2>(row(min_of(i + ahead, end - 1)) + first_column, count);
  }
};

// scores[i][j] = query i times key `key` + j. Queries end with zeros, up to a whole vector. `asks`:
// for keys further on, too.
template <int kRows, int kKeys, class T, class S>
inline void dot_products(Rows<const T> queries, const RowReader<S>& keys, int64_t key, bool asks,
                         Rows<T> scores) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const S* first_key = keys.row(key);
  const int64_t stride = keys.stride;
  const int64_t head_dim = keys.columns;
  Vec<T> sums[kRows * kKeys];
#pragma GCC unroll 32
  for (int n = 0; n < kRows * kKeys; ++n) sums[n] = Vec<T>::broadcast(T{0});
  for (int j = 0; asks && j < kKeys; ++j) keys.prefetch(key + j, 0, head_dim);
  const auto add = [&](int64_t d, const auto& load) {
    Vec<T> left[kRows];
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) left[i] = Vec<T>::load(queries[i] + d);
#pragma GCC unroll 32
    for (int j = 0; j < kKeys; ++j) {
      const Vec<T> right = load(first_key + j * stride + d);
#pragma GCC unroll 32
      for (int i = 0; i < kRows; ++i) {
        sums[i * kKeys + j] = fma(left[i], right, sums[i * kKeys + j]);
      }
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) {
    add(d, [](const S* source) { return Vec<T>::load(source); });
  }
  if (d < head_dim) {
    add(d, [&](const S* source) { return load_first<T>(source, head_dim - d); });
  }
  T flat[kRows * kKeys];
  store_sums<kRows * kKeys>(sums, flat);
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) memcpy(scores[i], flat + i * kKeys, kKeys * sizeof(T));
}

// The keys from `begin` up to `end` of a tile, and the bits of those that some rows see in all of
// it. The sums of a tile are added to the output once, so they wait in between.
struct TilePart {
  int64_t key;  // the tile's first
  uint64_t bits;
  int64_t begin;
  int64_t end;
  bool asks;  // for values further on, too

  bool empty() const { return (bits & low_bits(end) & ~low_bits(begin)) == 0; }
  bool first() const { return (bits & low_bits(begin)) == 0; }
  bool last() const { return (bits & ~low_bits(end)) == 0; }
};

// out[i] += weights[i][j] * row j of values, over the visible keys j of the tile in their order, in
// the columns from `d` on. Between two parts of a tile the sum waits in `waiting`.
template <int kRows, int kVectors, class T, class S, class Load>
inline void add_values(Rows<const T> weights, const TilePart& part, const RowReader<S>& values,
                       int64_t d, Rows<T> waiting, Rows<T> out, const Load& load) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  constexpr int64_t kLine = 64 / sizeof(S);
  const bool first = part.first();
  Vec<T> sums[kRows][kVectors];
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      sums[i][v] = first ? Vec<T>::broadcast(T{0}) : Vec<T>::load(waiting[i] + d + v * kLanes);
    }
  }
  const bool asks = part.asks && (kVectors * kLanes >= kLine || d % kLine == 0);
  const S* row = values.row(part.key + part.begin) + d;
  for (int64_t j = part.begin; j < part.end; ++j, row += values.stride) {
    if (!(part.bits >> j & 1)) continue;
    if (asks) values.prefetch(part.key + j, d, kVectors * kLanes);
    Vec<T> weight[kRows];
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) weight[i] = Vec<T>::broadcast(weights[i][j]);
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      const Vec<T> value = load(row + v * kLanes);
#pragma GCC unroll 32
      for (int i = 0; i < kRows; ++i) sums[i][v] = fma(weight[i], value, sums[i][v]);
    }
  }
  const bool last = part.last();
#pragma GCC unroll 32
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      T* place = (last ? out[i] : waiting[i]) + d + v * kLanes;
      (last ? Vec<T>::load(place) + sums[i][v] : sums[i][v]).store(place);
    }
  }
}

// The same for all columns.
template <int kRows, class T, class S>
inline void add_all_values(Rows<const T> weights, const TilePart& part, const RowReader<S>& values,
                           Rows<T> waiting, Rows<T> out) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const auto whole = [](const S* source) { return Vec<T>::load(source); };
  int64_t d = 0;
  const auto add = [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    for (; d + kVectors * kLanes <= values.columns; d += kVectors * kLanes) {
      add_values<kRows, kVectors>(weights, part, values, d, waiting, out, whole);
    }
  };
  if constexpr (kRows == 1) add(Constant<kLoneVectors>{});
  add(Constant<block_columns<T>(kRows)>{});
  add(Constant<1>{});
  if (d == values.columns) return;
  add_values<kRows, 1>(weights, part, values, d, waiting, out,
                       [&](const S* source) { return load_first<T>(source, values.columns - d); });
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
