// Few queries, as a decode step has them: one pass over a chunk of keys for all queries that share
// them (the heads of a group, and up to eight tokens). Nothing is packed; keys are read once.
//
// A row of more than one chunk leaves its parts in the shared workspace. Whoever finishes the last
// part merges them in the order of the chunks, so the bits depend on no thread and no batch.
#pragma once

#include "online_softmax.h"
#include "overflow.h"
#include "pack.h"
#include "plan.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

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

// Dot products of one query with the keys from `key` on, each one chain over the head dimension.
template <int kKeys, class T, class S>
inline void dot_products(const T* query, const RowReader<S>& reader, int64_t key, T* scores) {
  const S* keys = reader.row(key);
  const int64_t stride = reader.stride;
  const int64_t head_dim = reader.columns;
  Vec<T> sums[kKeys];
  for (int j = 0; j < kKeys; ++j) {
    sums[j] = Vec<T>::broadcast(T{0});
    reader.prefetch(key + j, 0, head_dim);
  }
  int64_t d = 0;
  for (; d + Vec<T>::kLanes <= head_dim; d += Vec<T>::kLanes) {
    const Vec<T> left = Vec<T>::load(query + d);
    for (int j = 0; j < kKeys; ++j) {
      sums[j] = fma(left, Vec<T>::load(keys + j * stride + d), sums[j]);
    }
  }
  if (d < head_dim) {
    const Vec<T> left = load_first<T>(query + d, head_dim - d);
    for (int j = 0; j < kKeys; ++j) {
      sums[j] = fma(left, load_first<T>(keys + j * stride + d, head_dim - d), sums[j]);
    }
  }
  for (int j = 0; j < kKeys; ++j) scores[j] = reduce_add(sums[j]);
}

// out += weights[j] * row key + j of values, over the visible j in [begin, end) in their order, for
// the columns from `d` on.
template <int kVectors, class T, class S>
inline void add_visible_values(const T* weights, uint64_t bits, int64_t begin, int64_t end,
                               const RowReader<S>& values, int64_t key, int64_t d, T* out) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  Vec<T> sums[kVectors];
  for (int v = 0; v < kVectors; ++v) sums[v] = Vec<T>::broadcast(T{0});
  for (int64_t j = begin; j < end; ++j) {
    if (!(bits >> j & 1)) continue;
    const Vec<T> weight = Vec<T>::broadcast(weights[j]);
    const S* row = values.row(key + j) + d;
    values.prefetch(key + j, d, kVectors * kLanes);
    for (int v = 0; v < kVectors; ++v) {
      sums[v] = fma(weight, Vec<T>::load(row + v * kLanes), sums[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    (Vec<T>::load(out + d + v * kLanes) + sums[v]).store(out + d + v * kLanes);
  }
}

template <class T>
class FewQueryAttention {
 public:
  FewQueryAttention(const AttentionParams& params, const MaskView& mask,
                    const cpu::SharedLayout& layout)
      : p_(params), mask_(mask), group_(params.heads / params.kv_heads), layout_(layout) {}

  // Some chunks of keys of one key head, for the queries of the item and all heads of the group.
  void run(const cpu::Item& item, int64_t kv_head, char* workspace) const {
    Scratch s = carve(workspace);
    s.rows = group_ * length(item.queries);
    load_queries(item, kv_head, s);
    int64_t chunk = item.chunk;
    for (int64_t key = item.keys.begin; key < item.keys.end; key += kKeyChunk, ++chunk) {
      const Range keys{key, min_of(key + kKeyChunk, item.keys.end)};
      s.small = false;
      visit_chunk(item, kv_head, keys, s);
      keep(item, kv_head, chunk, s);
      if (!any_overflowed(s)) continue;
      s.small = true;
      visit_chunk(item, kv_head, keys, s);
      keep(item, kv_head, chunk, s);
    }
    if (item.chunks == 1) return;
    if (is_last_part(item, kv_head, chunk - item.chunk)) {
      for (int64_t r = 0; r < s.rows; ++r) merge_parts(item, kv_head, r, s.out(r));
    }
  }

 private:
  struct Scratch {
    T* query;                 // [rows, head_dim], scaled
    T* values;                // [rows, value_stride]
    OnlineSoftmax<T>* state;  // [rows]
    T* scores;                // [64]
    int64_t rows;
    int64_t value_stride;
    bool small;  // weights are made smaller, to mend rows (overflow.h)

    T* out(int64_t row) const { return values + row * value_stride; }
  };

  // Where row r of a group's queries lies in the batch.
  struct Place {
    int64_t batch;
    int64_t head;
    int64_t query;
  };

  // What one chunk leaves for the merge.
  struct Part {
    OnlineSoftmax<T>* state;
    T* values;
    T* small;  // the same with smaller weights, if `values` overflowed
  };

  Scratch carve(char* workspace) const {
    const int64_t rows = group_ * cpu::kFewBlock;
    Arena arena(workspace);
    Scratch s{};
    s.value_stride = ceil_div(p_.value_dim, 16) * 16;
    s.query = arena.take<T>(rows * p_.head_dim);
    s.values = arena.take<T>(rows * s.value_stride);
    s.state = arena.take<OnlineSoftmax<T>>(rows);
    s.scores = arena.take<T>(kKeyTile);
    return s;
  }

  Place place(const cpu::Item& item, int64_t kv_head, int64_t row) const {
    const int64_t queries = length(item.queries);
    return {item.row, kv_head * group_ + row / queries, item.queries.begin + row % queries};
  }

  void load_queries(const cpu::Item& item, int64_t kv_head, Scratch& s) const {
    const T scale = static_cast<T>(p_.scale);
    with_stored_type<T>(p_.query, [&](auto* data) {
      for (int64_t r = 0; r < s.rows; ++r) {
        const Place at = place(item, kv_head, r);
        T* row = s.query + r * p_.head_dim;
        load_values(data + row_offset(p_.query, at.batch, at.head, at.query), p_.head_dim, row);
        scale_in_place(row, scale, p_.head_dim);
      }
    });
  }

  void visit_chunk(const cpu::Item& item, int64_t kv_head, Range chunk, const Scratch& s) const {
    fill(s.values, T{0}, s.rows * s.value_stride);
    for (int64_t r = 0; r < s.rows; ++r) s.state[r].reset();
    with_stored_type<T>(p_.key, [&](auto* data) {
      const auto* values = static_cast<decltype(data)>(p_.value.data);
      visit_tiles(item, kv_head, chunk,
                  RowReader(data + row_offset(p_.key, item.row, kv_head, 0), p_.key.row_stride,
                            p_.head_dim, item.keys.end),
                  RowReader(values + row_offset(p_.value, item.row, kv_head, 0),
                            p_.value.row_stride, p_.value_dim, item.keys.end),
                  s);
    });
  }

  template <class S>
  void visit_tiles(const cpu::Item& item, int64_t kv_head, Range chunk, const RowReader<S>& keys,
                   const RowReader<S>& values, const Scratch& s) const {
    for (int64_t key = chunk.begin; key < chunk.end; key += kKeyTile) {
      const int64_t count = min_of(kKeyTile, chunk.end - key);
      const uint64_t key_bits = mask_.key_bits(item.row, key, count);
      if (key_bits == 0) continue;
      for (int64_t r = 0; r < s.rows; ++r) {
        const Place at = place(item, kv_head, r);
        uint64_t bits = key_bits & mask_.position_bits(at.query, key, count);
        if (bits != 0) bits &= mask_.attn_bits(at.batch, at.head, at.query, key, count);
        if (bits != 0) visit_tile(at, r, key, bits, keys, values, s);
      }
    }
  }

  template <class S>
  void visit_tile(const Place& at, int64_t r, int64_t key, uint64_t bits, const RowReader<S>& keys,
                  const RowReader<S>& values, const Scratch& s) const {
    constexpr int64_t kLanes = Vec<T>::kLanes;
    const int64_t begin = __builtin_ctzll(bits);
    const int64_t end = 64 - __builtin_clzll(bits);
    const int64_t columns = ceil_div(end, kLanes) * kLanes;
    const T* query = s.query + r * p_.head_dim;
    int64_t j = begin;
    for (; j + 4 <= end; j += 4) dot_products<4>(query, keys, key + j, s.scores + j);
    for (; j < end; ++j) dot_products<1>(query, keys, key + j, s.scores + j);
    if (mask_.has_bias()) {
      mask_.add_bias(at.batch, at.head, at.query, key + begin, end - begin, s.scores + begin);
    }
    if (bits != low_bits(columns)) hide_masked(s.scores, bits, columns);
    const T factor = s.state[r].update(s.scores, columns);
    if (factor != T{1}) scale_in_place(s.out(r), factor, p_.value_dim);
    if (s.small) make_smaller(s.scores, columns);
    add_values(s.scores, bits, begin, end, values, key, s.out(r));
  }

  template <class S>
  void add_values(const T* weights, uint64_t bits, int64_t begin, int64_t end,
                  const RowReader<S>& values, int64_t key, T* out) const {
    constexpr int64_t kLanes = Vec<T>::kLanes;
    int64_t d = 0;
    for (; d + 8 * kLanes <= p_.value_dim; d += 8 * kLanes) {
      add_visible_values<8>(weights, bits, begin, end, values, key, d, out);
    }
    for (; d + 4 * kLanes <= p_.value_dim; d += 4 * kLanes) {
      add_visible_values<4>(weights, bits, begin, end, values, key, d, out);
    }
    for (; d + kLanes <= p_.value_dim; d += kLanes) {
      add_visible_values<1>(weights, bits, begin, end, values, key, d, out);
    }
    if (d == p_.value_dim) return;
    Vec<T> sum = Vec<T>::broadcast(T{0});
    for (int64_t j = begin; j < end; ++j) {
      if (!(bits >> j & 1)) continue;
      const Vec<T> value = load_first<T>(values.row(key + j) + d, p_.value_dim - d);
      sum = fma(Vec<T>::broadcast(weights[j]), value, sum);
    }
    (Vec<T>::load(out + d) + sum).store(out + d);
  }

  bool any_overflowed(const Scratch& s) const {
    for (int64_t r = 0; r < s.rows; ++r) {
      if (overflowed(s.out(r), p_.value_dim, s.state[r].sum)) return true;
    }
    return false;
  }

  // The results of one chunk: where they belong, or as parts of a longer row.
  void keep(const cpu::Item& item, int64_t kv_head, int64_t chunk, const Scratch& s) const {
    for (int64_t r = 0; r < s.rows; ++r) {
      if (item.chunks == 1) {
        store(place(item, kv_head, r), s.state[r], s.out(r), s.small);
        continue;
      }
      const Part p = part(item, kv_head, r, chunk);
      *p.state = s.state[r];
      memcpy(s.small ? p.small : p.values, s.out(r), p_.value_dim * sizeof(T));
    }
  }

  // `small`: only mends what is stored.
  void store(const Place& at, const OnlineSoftmax<T>& state, const T* values, bool small) const {
    with_stored_type<T>(p_.out, [&](auto* data) {
      auto* out = data + row_offset(p_.out, at.batch, at.head, at.query);
      if (small) return mend_stored(values, state.normalizer(), p_.value_dim, out);
      store_scaled(values, state.normalizer(), p_.value_dim, out);
    });
    if (p_.logsumexp.data == nullptr) return;
    const int64_t offset = row_offset(p_.logsumexp, at.batch, at.head, at.query);
    static_cast<T*>(p_.logsumexp.data)[offset] = state.logsumexp();
  }

  // Of head r of a group: only rows of one query have more than one chunk.
  Part part(const cpu::Item& item, int64_t kv_head, int64_t r, int64_t chunk) const {
    static_assert(sizeof(OnlineSoftmax<T>) == 2 * sizeof(T), "plan.cpp counts on it");
    const int64_t unit = chunk_slot(p_.mask, item.row, chunk) * p_.kv_heads + kv_head;
    const int64_t index = unit * group_ + r;
    char* begin = p_.workspace.shared + layout_.partials + index * layout_.partial_bytes;
    T* values = reinterpret_cast<T*>(begin + sizeof(OnlineSoftmax<T>));
    return {reinterpret_cast<OnlineSoftmax<T>*>(begin), values, values + p_.value_dim};
  }

  bool is_last_part(const cpu::Item& item, int64_t kv_head, int64_t finished) const {
    int32_t* counters = reinterpret_cast<int32_t*>(p_.workspace.shared + layout_.counters);
    int32_t* done = counters + item.row * p_.kv_heads + kv_head;
    return __atomic_add_fetch(done, static_cast<int32_t>(finished), __ATOMIC_ACQ_REL) ==
           item.chunks;
  }

  // Of row r of a group's queries, by way of `out`.
  void merge_parts(const cpu::Item& item, int64_t kv_head, int64_t r, T* out) const {
    const OnlineSoftmax<T> total = add_parts(item, kv_head, r, false, out);
    store(place(item, kv_head, r), total, out, false);
    if (!overflowed(out, p_.value_dim, total.sum)) return;
    add_parts(item, kv_head, r, true, out);
    store(place(item, kv_head, r), total, out, true);
  }

  OnlineSoftmax<T> add_parts(const cpu::Item& item, int64_t kv_head, int64_t r, bool small,
                             T* out) const {
    OnlineSoftmax<T> total;
    total.reset();
    fill(out, T{0}, p_.value_dim);
    for (int64_t chunk = 0; chunk < item.chunks; ++chunk) {
      const Part p = part(item, kv_head, r, chunk);
      const bool has_small = small && overflowed(p.values, p_.value_dim, p.state->sum);
      const T* values = has_small ? p.small : p.values;
      T part_factor;
      const T factor = total.merge(*p.state, &part_factor);
      if (small && !has_small) part_factor *= static_cast<T>(kSmaller);
      for (int64_t d = 0; d < p_.value_dim; ++d) {
        out[d] = out[d] * factor + values[d] * part_factor;
      }
    }
    return total;
  }

  const AttentionParams& p_;
  const MaskView& mask_;
  int64_t group_;
  const cpu::SharedLayout& layout_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
