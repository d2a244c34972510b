// Few queries, as a decode step has them: one pass over a chunk of keys for all queries that share
// them (the heads of a group, and up to eight tokens). Nothing is packed; keys are read once. Rows
// of queries that see the same keys of a tile are multiplied together, without a change of bits.
#pragma once

#include "few_products.h"
#include "few_results.h"
#include "score_shape.h"
#include "workspace.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

template <class T>
class FewQueryAttention {
 public:
  FewQueryAttention(const AttentionParams& params, const MaskView& mask,
                    const cpu::SharedLayout& layout)
      : p_(params),
        mask_(mask),
        shape_(params),
        group_(params.heads / params.kv_heads),
        results_(params, layout) {}

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
    if (results_.is_last_part(item, kv_head, chunk - item.chunk)) {
      for (int64_t r = 0; r < s.rows; ++r) results_.merge(item, kv_head, r, s.out[r]);
    }
  }

 private:
  // Neighbouring rows of queries that see the same keys of a tile.
  struct Block {
    int64_t row;
    int64_t rows;
    uint64_t bits;
  };

  struct Tile {
    int64_t key;
    uint64_t bits;   // keys that some block sees
    int64_t blocks;  // of the scratch memory
  };

  struct Scratch {
    Rows<T> query;            // [rows, head_dim], scaled, with zeros up to a whole vector
    Rows<T> out;              // [rows, value_dim]
    Rows<T> waiting;          // the same, of a part of a tile
    Rows<T> scores;           // [rows, 64]
    OnlineSoftmax<T>* state;  // [rows]
    Block* blocks;            // at most one for each row
    int64_t rows;
    bool small;  // weights are made smaller, to mend rows (overflow.h)
  };

  Scratch carve(char* workspace) const {
    const int64_t rows = group_ * cpu::kFewBlock;
    const int64_t query_stride = ceil_div(p_.head_dim, 16) * 16;
    const int64_t value_stride = ceil_div(p_.value_dim, 16) * 16;
    Arena arena(workspace);
    Scratch s{};
    s.query = {arena.take<T>(rows * query_stride), query_stride};
    s.out = {arena.take<T>(rows * value_stride), value_stride};
    s.waiting = {arena.take<T>(rows * value_stride), value_stride};
    s.scores = {arena.take<T>(rows * kKeyTile), kKeyTile};
    s.state = arena.take<OnlineSoftmax<T>>(rows);
    s.blocks = arena.take<Block>(rows);
    return s;
  }

  void load_queries(const cpu::Item& item, int64_t kv_head, Scratch& s) const {
    const T scale = static_cast<T>(p_.scale);
    with_stored_type<T>(p_.query, [&](auto* data) {
      for (int64_t r = 0; r < s.rows; ++r) {
        const FewPlace at = results_.place(item, kv_head, r);
        T* row = s.query[r];
        load_values(data + row_offset(p_.query, at.batch, at.head, at.query), p_.head_dim, row);
        scale_in_place(row, scale, p_.head_dim);
        fill(row + p_.head_dim, T{0}, s.query.stride - p_.head_dim);
      }
    });
  }

  void visit_chunk(const cpu::Item& item, int64_t kv_head, Range chunk, const Scratch& s) const {
    fill(s.out[0], T{0}, s.rows * s.out.stride);
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
      const Tile tile = find_blocks(item, kv_head, key, count, s);
      if (tile.bits == 0) continue;
      multiply_keys(tile, keys, s);
      for (int64_t b = 0; b < tile.blocks; ++b) {
        const Block& block = s.blocks[b];
        for (int64_t r = block.row; r < block.row + block.rows; ++r) {
          find_weights(results_.place(item, kv_head, r), r, key, block.bits, s);
        }
      }
      multiply_values(tile, values, s);
    }
  }

  // Cuts the rows where the keys that they see change, then into register blocks.
  Tile find_blocks(const cpu::Item& item, int64_t kv_head, int64_t key, int64_t count,
                   const Scratch& s) const {
    Tile tile{key, 0, 0};
    const uint64_t key_bits = mask_.key_bits(item.row, key, count);
    if (key_bits == 0) return tile;
    Block run{0, 0, 0};
    for (int64_t r = 0; r < s.rows; ++r) {
      const FewPlace at = results_.place(item, kv_head, r);
      uint64_t bits = key_bits & mask_.position_bits(at.query, key, count);
      if (bits != 0) bits &= mask_.attn_bits(at.batch, at.head, at.query, key, count);
      if (bits != run.bits) {
        add_blocks(run, &tile, s);
        run = {r, 0, bits};
      }
      ++run.rows;
    }
    add_blocks(run, &tile, s);
    return tile;
  }

  static void add_blocks(const Block& run, Tile* tile, const Scratch& s) {
    if (run.bits == 0) return;
    const int64_t blocks = ceil_div(run.rows, kMostBlockRows);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t begin = b * run.rows / blocks;
      const int64_t end = (b + 1) * run.rows / blocks;
      s.blocks[tile->blocks++] = {run.row + begin, end - begin, run.bits};
    }
    tile->bits |= run.bits;
  }

  // Whether one row of queries sees something.
  static bool is_alone(const Tile& tile, const Scratch& s) {
    return tile.blocks == 1 && s.blocks[0].rows == 1;
  }

  static Range seen_range(uint64_t bits) {
    return {__builtin_ctzll(bits), 64 - __builtin_clzll(bits)};
  }

  // Keys outside, blocks inside: a key is read from memory once.
  template <class S>
  void multiply_keys(const Tile& tile, const RowReader<S>& keys, const Scratch& s) const {
    const Range seen = seen_range(tile.bits);
    const int64_t step = is_alone(tile, s) ? kKeyTile : kPartKeys;
    for (int64_t j = seen.begin; j < seen.end; j += step) {
      const Range some{j, min_of(j + step, seen.end)};
      for (int64_t b = 0; b < tile.blocks; ++b) {
        const Block& block = s.blocks[b];
        const Range range = intersect(some, seen_range(block.bits));
        with_rows(block.rows, [&](auto rows) {
          multiply_block<decltype(rows)::value>(block, keys, tile.key, range, b == 0, s);
        });
      }
    }
  }

  template <int kRows, class S>
  void multiply_block(const Block& block, const RowReader<S>& keys, int64_t key, Range range,
                      bool asks, const Scratch& s) const {
    constexpr int kKeys = block_columns<T>(kRows);
    const Rows<const T> queries{s.query[block.row], s.query.stride};
    T* scores = s.scores[block.row];
    int64_t j = range.begin;
    for (; j + kKeys <= range.end; j += kKeys) {
      dot_products<kRows, kKeys>(queries, keys, key + j, asks, {scores + j, kKeyTile});
    }
    for (; j < range.end; ++j) {
      dot_products<kRows, 1>(queries, keys, key + j, asks, {scores + j, kKeyTile});
    }
  }

  // Turns the scores of row r into weights.
  void find_weights(const FewPlace& at, int64_t r, int64_t key, uint64_t bits,
                    const Scratch& s) const {
    const Range seen = seen_range(bits);
    const int64_t columns = ceil_div(seen.end, Vec<T>::kLanes) * Vec<T>::kLanes;
    T* scores = s.scores[r];
    if (shape_.bends()) {
      shape_.bend(at.batch, at.head, mask_.position(at.query) - key, columns, scores);
    }
    if (mask_.has_bias()) {
      mask_.add_bias(at.batch, at.head, at.query, key + seen.begin, length(seen),
                     scores + seen.begin);
    }
    if (bits != low_bits(columns)) hide_masked(scores, bits, columns);
    const T factor = s.state[r].update(scores, columns);
    if (factor != T{1}) scale_in_place(s.out[r], factor, p_.value_dim);
    if (s.small) make_smaller(scores, columns);
  }

  // Values stay in the first-level cache while all blocks pass over them.
  template <class S>
  void multiply_values(const Tile& tile, const RowReader<S>& values, const Scratch& s) const {
    const Range seen = seen_range(tile.bits);
    const int64_t step = is_alone(tile, s) ? kKeyTile : kPartKeys;
    for (int64_t j = seen.begin; j < seen.end; j += step) {
      for (int64_t b = 0; b < tile.blocks; ++b) {
        const Block& block = s.blocks[b];
        const TilePart part{tile.key, block.bits, j, min_of(j + step, seen.end), b == 0};
        if (part.empty()) continue;
        const Rows<const T> weights{s.scores[block.row], kKeyTile};
        const Rows<T> waiting{s.waiting[block.row], s.waiting.stride};
        const Rows<T> out{s.out[block.row], s.out.stride};
        with_rows(block.rows, [&](auto rows) {
          add_all_values<decltype(rows)::value>(weights, part, values, waiting, out);
        });
      }
    }
  }

  bool any_overflowed(const Scratch& s) const {
    for (int64_t r = 0; r < s.rows; ++r) {
      if (overflowed(s.out[r], p_.value_dim, s.state[r].sum)) return true;
    }
    return false;
  }

  // The results of one chunk.
  void keep(const cpu::Item& item, int64_t kv_head, int64_t chunk, const Scratch& s) const {
    for (int64_t r = 0; r < s.rows; ++r) {
      results_.keep(item, kv_head, r, chunk, s.state[r], s.out[r], s.small);
    }
  }

  const AttentionParams& p_;
  const MaskView& mask_;
  ScoreShape<T> shape_;
  int64_t group_;
  FewResults<T> results_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
