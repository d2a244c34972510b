// Many queries: each key tile is packed once and met by every query tile of the block.
//
//   for each key tile of the row:         64 keys, counted from the row's first visible key
//     for each query tile of the block:   48 queries; skipped when nothing is visible
//       scores = query tile x key tile; mask, online softmax; output += weights x values
//
// The surprise: a packed value tile that holds NaN or Inf and is only partly visible runs query by
// query with the unseen rows as zeros, because 0 * NaN is NaN.
#pragma once

#include "attention_tiles.h"
#include "online_softmax.h"
#include "overflow.h"
#include "pack.h"
#include "plan.h"
#include "policy.h"
#include "score_shape.h"
#include "tile_product.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class T>
class TiledAttention {
 public:
  TiledAttention(const AttentionParams& params, const MaskView& mask, char* workspace)
      : p_(params),
        mask_(mask),
        shape_(params),
        value_stride_(ceil_div(params.value_dim, 16) * 16),
        tiles_(uses_tiles(params)),
        pairs_(tiles_ || multiplies_pairs(params)),
        depth_(depth_of(params)) {
    const int64_t rows = cpu::max_block_queries(p_.head_dim, p_.value_dim);
    Arena arena(workspace);
    query_ = arena.take<T>(rows * p_.head_dim);
    out_ = arena.take<T>(rows * value_stride_);
    state_ = arena.take<OnlineSoftmax<T>>(rows);
    packed_key_ = arena.take<T>(kKeyTile * p_.head_dim);
    packed_value_ = arena.take<T>(kKeyTile * value_stride_);
    seen_value_ = arena.take<T>(kKeyTile * cpu::kPanel);
    scores_ = arena.take<T>(cpu::kQueryTile * kKeyTile);
    rows_ = arena.take<T>(4 * p_.head_dim);
    bits_ = arena.take<uint64_t>(cpu::kQueryTile);
    if constexpr (kCanTile) parts_ = arena.take<T>(2 * kTileRows * kPartsStride);
    // Packing leaves the padding alone.
    fill(packed_key_, T{0}, kKeyTile * p_.head_dim);
    fill(packed_value_, T{0}, kKeyTile * value_stride_);
  }

  // One block of queries of one head against all keys of its row.
  void run(const cpu::Item& item, int64_t head) {
    batch_ = item.row;
    head_ = head;
    kv_head_ = head / (p_.heads / p_.kv_heads);
    queries_ = item.queries;
    item_keys_ = item.keys;
    rows_ahead_ = ceil_div(kKeyTile, length(queries_));
    if (next_head() < p_.heads) {
      query_ahead_ = RowsAhead(p_.query, batch_, next_head(), queries_, p_.head_dim);
    }
    if constexpr (kCanTile) {
      if (tiles_) {
        const TileScope scope;
        return visit();
      }
    }
    visit();
  }

 private:
  // Float32 is computed in tiles of bfloat16 only; see attention_tiles.h.
  static constexpr bool kCanTile = kHasTiles && sizeof(T) == sizeof(float);

  static bool uses_tiles(const AttentionParams& p) { return kCanTile && multiplies_tiles(p); }

  int64_t depth_of(const AttentionParams& p) const {
    if (tiles_) return ceil_div(p.head_dim, kTileInputs) * kTileColumns;
    return pairs_ ? p.head_dim / 2 : p.head_dim;
  }

  void visit() {
    load_queries();
    visit_keys();
    if (store_output()) return;
    small_ = true;
    visit_keys();
    mend_output();
  }

  // Queries and keys of bfloat16 are multiplied as they are, two by two, where the processor can;
  // weights and values stay float32, so results are as exact as without.
  static bool multiplies_pairs(const AttentionParams& p) {
    return kUsesPairs && sizeof(T) == sizeof(float) && p.query.dtype == DType::kBFloat16 &&
           p.key.dtype == DType::kBFloat16 && p.head_dim % 2 == 0;
  }

  // Scaled, unless they are pairs: then the scores are scaled.
  void load_queries() {
    const T scale = static_cast<T>(p_.scale);
    with_stored_type<T>(p_.query, [&](auto* data) {
      for (int64_t i = 0; i < length(queries_); ++i) {
        T* row = query_ + i * depth_;
        const auto* source = data + row_offset(p_.query, batch_, head_, queries_.begin + i);
        if (pairs_) {
          memcpy(row, source, p_.head_dim * sizeof(*source));
          fill(row + p_.head_dim / 2, T{0}, depth_ - p_.head_dim / 2);
        } else {
          load_values(source, p_.head_dim, row);
          scale_in_place(row, scale, p_.head_dim);
        }
      }
    });
  }

  void visit_keys() {
    fill(out_, T{0}, length(queries_) * value_stride_);
    for (int64_t i = 0; i < length(queries_); ++i) state_[i].reset();
    for (int64_t key = item_keys_.begin; key < item_keys_.end; key += kKeyTile) {
      visit_key_tile(key, min_of(kKeyTile, item_keys_.end - key));
    }
  }

  void visit_key_tile(int64_t key, int64_t keys) {
    const uint64_t key_bits = mask_.key_bits(batch_, key, keys);
    if (key_bits == 0) return;
    bool packed = false;
    for (int64_t i = 0; i < length(queries_); i += cpu::kQueryTile) {
      const int64_t rows = min_of(cpu::kQueryTile, length(queries_) - i);
      if (!find_visible(i, rows, key, keys, key_bits)) continue;
      if (!packed) pack_tile(key, keys);
      packed = true;
      visit_query_tile(i, rows, key);
    }
  }

  // Fills `bits_`; false if the tile has nothing to see.
  bool find_visible(int64_t first, int64_t rows, int64_t key, int64_t keys, uint64_t key_bits) {
    const Range queries{queries_.begin + first, queries_.begin + first + rows};
    if (mask_.out_of_reach(queries, {key, key + keys})) return false;
    if (mask_.only_key_mask(queries, {key, key + keys})) {
      fill(bits_, key_bits, rows);
      return true;
    }
    uint64_t seen = 0;
    for (int64_t i = 0; i < rows; ++i) {
      uint64_t bits = key_bits & mask_.position_bits(queries.begin + i, key, keys);
      if (bits != 0) bits &= mask_.attn_bits(batch_, head_, queries.begin + i, key, keys);
      bits_[i] = bits;
      seen |= bits;
    }
    return seen != 0;
  }

  // Keys become [depth, 64], values [64, value_stride].
  void pack_tile(int64_t key, int64_t keys) {
    with_stored_type<T>(p_.key, [&](auto* data) {
      pack_transposed(data + row_offset(p_.key, batch_, kv_head_, key), p_.key.row_stride, keys,
                      pairs_ ? p_.head_dim / 2 : p_.head_dim, pairs_, rows_, packed_key_, kKeyTile);
    });
    pack_values(key, keys);
    expect_after({key, key + keys});
  }

  // Or pairs of values, [32, value_stride].
  void pack_values(int64_t key, int64_t keys) {
    if constexpr (kCanTile) {
      if (tiles_) {
        const BFloat16* values = static_cast<const BFloat16*>(p_.value.data);
        pack_value_pairs(values + row_offset(p_.value, batch_, kv_head_, key), p_.value.row_stride,
                         keys, p_.value_dim, packed_value_, value_stride_);
        finite_ = finite_pairs(packed_value_, kKeyPairs * value_stride_);
        return;
      }
    }
    with_stored_type<T>(p_.value, [&](auto* data) {
      pack_rows(data + row_offset(p_.value, batch_, kv_head_, key), p_.value.row_stride, keys,
                p_.value_dim, packed_value_, value_stride_);
    });
    finite_ = all_finite(packed_value_, keys * value_stride_);
  }

  // Rows of one register block. Keys behind the last one that any of them sees are not computed.
  struct RowBlock {
    int64_t first;  // in the block of queries
    int64_t rows;
    int64_t used;     // keys up to the last one that is seen
    int64_t columns;  // `used`, rounded up to whole vectors
    bool whole;       // every row sees every key
    const uint64_t* bits;
    T* scores;
  };

  RowBlock row_block(int64_t first, int64_t i, int64_t rows) const {
    uint64_t seen = 0;
    uint64_t all_see = ~uint64_t{0};
    for (int64_t r = i; r < i + rows; ++r) {
      seen |= bits_[r];
      all_see &= bits_[r];
    }
    const int64_t used = seen == 0 ? 0 : 64 - __builtin_clzll(seen);
    const int64_t columns = ceil_div(used, Vec<T>::kLanes) * Vec<T>::kLanes;
    return {first + i,
            rows,
            used,
            columns,
            all_see == low_bits(used),
            bits_ + i,
            scores_ + i * kKeyTile};
  }

  void visit_query_tile(int64_t first, int64_t rows, int64_t key) {
    RowBlock blocks[cpu::kQueryTile / kBlockRows];
    int64_t count = 0;
    const int64_t block_rows = tiles_ ? kTileRows : kBlockRows;
    for (int64_t i = 0; i < rows; i += block_rows) {
      const RowBlock block = row_block(first, i, min_of(block_rows, rows - i));
      if (block.used != 0) blocks[count++] = block;
    }
    if constexpr (kCanTile) {
      if (tiles_) {
        for (int64_t i = 0; i < count; ++i) visit_in_tiles(blocks[i], key);
        return;
      }
    }
    // Panels of at most 64 x 64 stay in the first-level cache while all row blocks meet them.
    for (int64_t d = 0; d < max_of(depth_, 1); d += cpu::kPanel) {
      for (int64_t i = 0; i < count; ++i)
        multiply_keys(blocks[i], d, min_of(cpu::kPanel, depth_ - d));
    }
    for (int64_t i = 0; i < count; ++i) soften(blocks[i], key);
    for (int64_t d = 0; d < value_stride_; d += cpu::kPanel) {
      for (int64_t i = 0; i < count; ++i) {
        add_values(blocks[i], d, min_of(cpu::kPanel, value_stride_ - d));
      }
    }
  }

  // Rows behind those of the block are there, hold anything, and are never looked at.
  void visit_in_tiles(const RowBlock& block, int64_t key) {
    multiply_keys_in_tiles(query_ + block.first * depth_, packed_key_, depth_, block.columns,
                           block.scores);
    soften(block, key);
    for (int64_t i = 0; i < block.rows; ++i) {
      split_weights(block.scores + i * kKeyTile, block.columns, parts_ + i * kPartsStride);
    }
    T* out = out_ + block.first * value_stride_;
    if (finite_) {
      add_values_in_tiles(parts_, {packed_value_, packed_value_, value_stride_}, block.used,
                          value_stride_, out, value_stride_);
      return;
    }
    for (int64_t i = 0; i < block.rows; ++i) {
      for (int64_t d = 0; d < value_stride_; d += cpu::kPanel) {
        add_seen_values_in_tiles(parts_ + i * kPartsStride, block.bits[i], packed_value_ + d,
                                 value_stride_, block.used, min_of(cpu::kPanel, value_stride_ - d),
                                 seen_value_, out + i * value_stride_ + d);
      }
    }
  }

  // scores += queries x keys over the elements [d, d + depth) of the head.
  void multiply_keys(const RowBlock& block, int64_t d, int64_t depth) {
    const Matrix<const T> queries{query_ + block.first * depth_ + d, depth_};
    const Matrix<const T> keys{packed_key_ + d * kKeyTile, kKeyTile};
    const Matrix<T> scores{block.scores, kKeyTile};
    if constexpr (kUsesPairs && sizeof(T) == sizeof(float)) {
      if (pairs_) {
        return tile_product<TwoBFloat16>(queries, keys, block.rows, depth, block.columns, scores,
                                         d > 0);
      }
    }
    tile_product<OneValue>(queries, keys, block.rows, depth, block.columns, scores, d > 0);
  }

  // Scores become weights.
  void soften(const RowBlock& block, int64_t key) {
    for (int64_t i = 0; i < block.rows; ++i) {
      T* scores = block.scores + i * kKeyTile;
      key_ahead_.prefetch(rows_ahead_);
      value_ahead_.prefetch(rows_ahead_);
      query_ahead_.prefetch(1);
      if (block.bits[i] == 0) {
        fill(scores, T{0}, block.columns);
        continue;
      }
      const int64_t row = block.first + i;
      if (pairs_) scale_in_place(scores, static_cast<T>(p_.scale), block.columns);
      if (shape_.bends()) {
        const int64_t distance = mask_.position(queries_.begin + row) - key;
        shape_.bend(batch_, head_, distance, block.columns, scores);
      }
      if (mask_.has_bias()) {
        mask_.add_bias(batch_, head_, queries_.begin + row, key, block.used, scores);
      }
      if (!block.whole || block.used != block.columns) {
        hide_masked(scores, block.bits[i], block.columns);
      }
      const T factor = state_[row].update(scores, block.columns);
      if (factor != T{1}) scale_in_place(out_ + row * value_stride_, factor, value_stride_);
      if (small_) make_smaller(scores, block.columns);
    }
  }

  // out += weights x values for the columns [d, d + columns).
  void add_values(const RowBlock& block, int64_t d, int64_t columns) {
    const Matrix<T> out{out_ + block.first * value_stride_ + d, value_stride_};
    if (finite_ || block.whole) {
      tile_product<OneValue, T>({block.scores, kKeyTile}, {packed_value_ + d, value_stride_},
                                block.rows, block.used, columns, out, true);
      return;
    }
    for (int64_t i = 0; i < block.rows; ++i) {
      copy_seen_values(block.bits[i], block.used, d, columns);
      tile_product<OneValue, T>({block.scores + i * kKeyTile, kKeyTile}, {seen_value_, cpu::kPanel},
                                1, block.used, columns, {out.data + i * out.stride, out.stride},
                                true);
    }
  }

  // Memory is slow and products are not: what comes next is on its way while scores are softened.
  // After the last key tile comes the head that this worker takes next if all are equally fast.
  void expect_key_tile(int64_t head, Range keys) {
    const int64_t kv_head = head / (p_.heads / p_.kv_heads);
    key_ahead_ = RowsAhead(p_.key, batch_, kv_head, keys, p_.head_dim);
    value_ahead_ = RowsAhead(p_.value, batch_, kv_head, keys, p_.value_dim);
  }

  void expect_after(Range tile) {
    if (tile.end < item_keys_.end) {
      expect_key_tile(head_, {tile.end, min_of(tile.end + kKeyTile, item_keys_.end)});
    } else if (next_head() < p_.heads) {
      expect_key_tile(next_head(),
                      {item_keys_.begin, min_of(item_keys_.begin + kKeyTile, item_keys_.end)});
    }
  }

  int64_t next_head() const { return head_ + p_.threads.count; }

  void copy_seen_values(uint64_t bits, int64_t used, int64_t d, int64_t columns) {
    for (int64_t j = 0; j < used; ++j) {
      T* row = seen_value_ + j * cpu::kPanel;
      if (bits >> j & 1) {
        load_values(packed_value_ + j * value_stride_ + d, columns, row);
      } else {
        fill(row, T{0}, columns);
      }
    }
  }

  T sink() const { return head_value(p_.sinks, negative_infinity(T{}), batch_, head_); }

  // False if a row has to be mended.
  bool store_output() {
    const T sink = this->sink();
    bool right = true;
    with_stored_type<T>(p_.out, [&](auto* data) {
      for (int64_t i = 0; i < length(queries_); ++i) {
        const T* sums = out_ + i * value_stride_;
        store_scaled(sums, state_[i].normalizer(sink), p_.value_dim,
                     data + row_offset(p_.out, batch_, head_, queries_.begin + i));
        right = right && !overflowed(sums, p_.value_dim, state_[i].sum);
      }
    });
    if (p_.logsumexp.data == nullptr) return right;
    T* logsumexp = static_cast<T*>(p_.logsumexp.data) +
                   row_offset(p_.logsumexp, batch_, head_, queries_.begin);
    for (int64_t i = 0; i < length(queries_); ++i) logsumexp[i] = state_[i].logsumexp();
    return right;
  }

  void mend_output() {
    const T sink = this->sink();
    with_stored_type<T>(p_.out, [&](auto* data) {
      for (int64_t i = 0; i < length(queries_); ++i) {
        mend_stored(out_ + i * value_stride_, state_[i].normalizer(sink), p_.value_dim,
                    data + row_offset(p_.out, batch_, head_, queries_.begin + i));
      }
    });
  }

  const AttentionParams& p_;
  const MaskView& mask_;
  ScoreShape<T> shape_;
  int64_t value_stride_;
  bool tiles_;
  bool pairs_;
  int64_t depth_;            // elements of a query: head_dim, or half of it, padded for tiles
  T* query_;                 // [block, depth]
  T* out_;                   // [block, value_stride]
  OnlineSoftmax<T>* state_;  // [block]
  T* packed_key_;            // [depth, 64]
  T* packed_value_;          // [64, value_stride]
  T* seen_value_;            // [64, 64]
  T* scores_;                // [48, 64]
  T* rows_;                  // [4, depth]
  uint64_t* bits_;           // [48]
  T* parts_ = nullptr;       // of weights, for tiles: [16, kPartsStride], and as much behind
  bool finite_ = true;
  bool small_ = false;  // weights are made smaller, to mend rows (overflow.h)
  int64_t batch_ = 0;
  int64_t head_ = 0;
  int64_t kv_head_ = 0;
  Range queries_{0, 0};
  Range item_keys_{0, 0};
  int64_t rows_ahead_ = 1;  // to ask for with each query, so that a tile's are asked for in time
  RowsAhead key_ahead_;
  RowsAhead value_ahead_;
  RowsAhead query_ahead_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
