// Attention for many queries: one block for each tile of queries of one head. Keys and values pass
// through one tile of shared memory, 32 at a time, counted from the row's first visible key:
//
//   for each tile of keys that some query of the block may see:
//     keys -> shared;    scores, one key for each lane; softmax across the lanes
//     values -> shared;  out += weights x values, some columns for each lane
//
// The queries of a block lie in shared memory, scaled. Tiles that causality, the window or padding
// hide from the whole block are skipped.
#include "attention.h"

namespace masked_attn::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTileKeys = kWarp;

template <class T>
constexpr int kBlockQueries = kWarps * kWarpRows<T>;

// Where things lie in shared memory, in bytes.
struct Layout {
  int64_t finite;   // one flag for each warp
  int64_t queries;  // [kBlockQueries, head_dim]
  int64_t tile;     // keys [32, head_dim + 1], then values [32, columns]
  int64_t tile_elements;
  int64_t total;
};

template <class T, int kColumns>
MASKED_ATTN_DEVICE Layout layout_of(int64_t head_dim) {
  Layout layout{};
  layout.finite = kRangeBytes;
  layout.queries = layout.finite + 16 * ceil_div(kWarps * 4, 16);
  const int64_t query_bytes = kBlockQueries<T> * head_dim * static_cast<int64_t>(sizeof(T));
  layout.tile = layout.queries + ceil_div(query_bytes, 16) * 16;
  layout.tile_elements = max_of(kTileKeys * (head_dim + 1), kTileKeys * kColumns * kWarp);
  layout.total = layout.tile + layout.tile_elements * static_cast<int64_t>(sizeof(T));
  return layout;
}

template <class T, int kColumns>
class TiledBlock {
 public:
  MASKED_ATTN_METHOD TiledBlock(const AttentionParams& params, Layout layout)
      : p_(params),
        finite_(layout.finite, kWarps),
        query_(layout.queries, kBlockQueries<T> * params.head_dim),
        tile_(layout.tile, layout.tile_elements) {}

  MASKED_ATTN_METHOD void run(int64_t batch, int64_t head, Range queries, Range keys) {
    batch_ = batch;
    head_ = head;
    kv_head_ = head / (p_.heads / p_.kv_heads);
    queries_ = queries;
    count_ = static_cast<int>(max_of(0, min_of(kRows, queries.end - query_of(0))));
    load_queries();
    bool right = false;
#pragma unroll 1
    for (int pass = 0; pass < 2 && !right; ++pass) right = visit_keys(keys, pass != 0);
  }

 private:
  static constexpr int kRows = kWarpRows<T>;

  // False if the block has to visit its keys again, with smaller weights.
  MASKED_ATTN_METHOD bool visit_keys(Range keys, bool small) {
    rows_.reset(count_, small);
    for (int64_t key = keys.begin; key < keys.end; key += kTileKeys) {
      const Range tile{key, min_of(key + kTileKeys, keys.end)};
      if (may_see(tile)) visit(tile);
    }
    const bool right = store(small);
    return small || all_warps(right, 0);
  }

  // Query i of this warp.
  MASKED_ATTN_METHOD int64_t query_of(int i) const {
    return queries_.begin + warp_index() * kRows + i;
  }

  // Made anew for each tile: kept, it would take registers that the queries need.
  MASKED_ATTN_METHOD MaskView mask() const { return visible_mask(p_, batch_); }

  MASKED_ATTN_METHOD bool may_see(Range tile) const {
    const MaskView mask = this->mask();
    return !mask.out_of_reach(queries_, tile) && mask.key_bits(batch_, tile.begin, length(tile));
  }

  // Rows behind the last query are zeros.
  MASKED_ATTN_METHOD void load_queries() {
    const T scale = static_cast<T>(p_.scale);
    for (int64_t i = warp_index(); i < kBlockQueries<T>; i += kWarps) {
      const bool inside = i < length(queries_);
      const int64_t from = inside ? row_offset(p_.query, batch_, head_, queries_.begin + i) : 0;
      for (int64_t d = lane_index(); d < p_.head_dim; d += kWarp) {
        query_.set(i * p_.head_dim + d,
                   inside ? load_element<T>(p_.query, from + d) * scale : T{0});
      }
    }
  }

  MASKED_ATTN_METHOD void visit(Range tile) {
    load_keys(tile);
    block_barrier();
    multiply_keys(tile);
    block_barrier();
    load_values(tile);
    block_barrier();
    bool finite = true;
    for (int warp = 0; warp < kWarps; ++warp) finite = finite && finite_.get(warp) != 0;
    for (int64_t j = 0; j < length(tile); ++j) {
      T values[kColumns];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        values[c] = tile_.get(j * kColumns * kWarp + c * kWarp + lane_index());
      }
      rows_.add_values(values, static_cast<int>(j), finite);
    }
    block_barrier();
  }

  // Rows behind the last key are zeros. The odd stride spreads a column over all banks.
  MASKED_ATTN_METHOD void load_keys(Range tile) {
    const int64_t stride = p_.head_dim + 1;
    for (int64_t j = warp_index(); j < kTileKeys; j += kWarps) {
      const bool inside = j < length(tile);
      const int64_t from = inside ? row_offset(p_.key, batch_, kv_head_, tile.begin + j) : 0;
      for (int64_t d = lane_index(); d < p_.head_dim; d += kWarp) {
        tile_.set(j * stride + d, inside ? load_element<T>(p_.key, from + d) : T{0});
      }
    }
  }

  MASKED_ATTN_METHOD void load_values(Range tile) {
    bool finite = true;
    for (int64_t j = warp_index(); j < length(tile); j += kWarps) {
      const int64_t from = row_offset(p_.value, batch_, kv_head_, tile.begin + j);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int64_t column = c * kWarp + lane_index();
        const T value = column < p_.value_dim ? load_element<T>(p_.value, from + column) : T{0};
        finite = finite && value - value == T{0};
        tile_.set(j * kColumns * kWarp + column, value);
      }
    }
    const bool all_finite = ballot(!finite) == 0;
    if (lane_index() == 0) finite_.set(warp_index(), all_finite);
  }

  // The key of this lane against the queries of this warp.
  MASKED_ATTN_METHOD void multiply_keys(Range tile) {
    const int64_t first = warp_index() * kRows * p_.head_dim;
    const int64_t stride = p_.head_dim + 1;
    T score[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) score[i] = T{0};
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      const T key = tile_.get(lane_index() * stride + d);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        score[i] = multiply_add(query_.get(first + i * p_.head_dim + d), key, score[i]);
      }
    }
    const int64_t key = tile.begin + lane_index();
    const MaskView mask = this->mask();
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i >= count_) break;
      const int64_t query = query_of(i);
      const bool seen = key < tile.end && sees(mask, batch_, head_, query, key);
      T shaped = score[i];
      if (seen) shaped = shaped_score(p_, mask, batch_, head_, query, key, shaped);
      rows_.soften(i, shaped, seen);
    }
  }

  // False if a row has to be mended.
  MASKED_ATTN_METHOD bool store(bool small) {
    bool right = true;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i >= count_) break;
      Merged<T, kColumns> row;
      row.add(rows_.total(i), rows_.out(i));
      row.store(p_, batch_, head_, query_of(i), small);
      right = right && !row.overflowed();
    }
    return right;
  }

  const AttentionParams& p_;
  Shared<int32_t> finite_;
  Shared<T> query_;
  Shared<T> tile_;
  QueryRows<T, kColumns> rows_;
  int64_t batch_ = 0;
  int64_t head_ = 0;
  int64_t kv_head_ = 0;
  Range queries_{0, 0};  // of the block
  int count_ = 0;        // of the warp's queries
};

template <class T, int kColumns>
MASKED_ATTN_KERNEL tiled(AttentionParams p) {
  const int64_t tiles = ceil_div(p.mask.queries, kBlockQueries<T>);
  // With causal masks the last queries have the most work, so they begin first.
  const int64_t tile = tiles - 1 - block_index() % tiles;
  const int64_t head = block_index() / tiles % p.heads;
  const int64_t batch = block_index() / (tiles * p.heads);
  const MaskView mask = visible_mask(p, batch);
  const int64_t first = mask.all_queries().begin + tile * kBlockQueries<T>;
  const Range queries{first, min_of(first + kBlockQueries<T>, mask.all_queries().end)};
  if (length(queries) == 0) return;  // a packed row that is shorter than others
  const Range keys = block_row_range(mask, batch, 0);
  if (takes_few(mask.queries(), keys)) return;
  TiledBlock<T, kColumns> block(p, layout_of<T, kColumns>(p.head_dim));
  block.run(batch, head, queries, keys);
}

template <class T>
Status run(const AttentionParams& p, Stream stream) {
  return with_columns(p.value_dim, [&]<int kColumns>() {
    const int64_t tiles = ceil_div(p.mask.queries, kBlockQueries<T>);
    return launch(tiled<T, kColumns>, p.batch * p.heads * tiles, kThreads,
                  layout_of<T, kColumns>(p.head_dim).total, stream, p);
  });
}

}  // namespace

Status attention_tiled(const AttentionParams& p, Stream stream) {
  return p.query.dtype == DType::kFloat64 ? run<double>(p, stream) : run<float>(p, stream);
}

}  // namespace masked_attn::cuda
