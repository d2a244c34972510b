// Attention for few queries, as a decode step has them: one block for some queries of one key head
// (the heads of a group and their tokens) and one chunk of 256 keys, counted from the row's first
// visible key. Each warp takes every fourth piece of 32 keys:
//
//   scores: eight lanes for each key, four keys at a time
//   softmax across the lanes; out += weights x values, some columns for each lane
//
// Keys and values are read straight from memory, once for eight queries (four in float64). The four
// warps are merged in order. A row of more than one chunk leaves its parts in the workspace, and a
// second kernel merges them in order: no bit depends on the batch.
#include "attention.h"

namespace masked_attn::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kKeyLanes = 8;  // lanes that share one key
constexpr int kKeysAtOnce = kWarp / kKeyLanes;

struct Layout {
  int64_t queries;  // [kRows, head_dim]
  int64_t parts;    // [kWarps, kRows, 2 + columns]
  int64_t total;
};

template <class T, int kColumns>
MASKED_ATTN_DEVICE Layout layout_of(int64_t head_dim) {
  constexpr int64_t kBytes = sizeof(T);
  Layout layout{};
  layout.queries = kRangeBytes;
  layout.parts = layout.queries + ceil_div(kWarpRows<T> * head_dim * kBytes, 16) * 16;
  layout.total = layout.parts + kWarps * kWarpRows<T> * (2 + kColumns * kWarp) * kBytes;
  return layout;
}

// Where row r of a group's queries lies in the batch.
struct Place {
  int64_t head;
  int64_t query;
};

template <class T, int kColumns>
class FewBlock {
 public:
  MASKED_ATTN_METHOD FewBlock(const AttentionParams& params, const MaskView& mask, Layout layout)
      : p_(params),
        mask_(mask),
        query_(layout.queries, kRows * params.head_dim),
        parts_(layout.parts, kWarps * kRows * kPartStride) {}

  MASKED_ATTN_METHOD void run(int64_t batch, int64_t kv_head, int64_t first_row, int64_t chunk,
                              Range keys, int64_t chunks) {
    batch_ = batch;
    kv_head_ = kv_head;
    first_row_ = first_row;
    const int64_t all_rows = p_.heads / p_.kv_heads * mask_.queries();
    count_ = static_cast<int>(min_of(kRows, all_rows - first_row));
    load_queries();
    block_barrier();
    bool right = false;
#pragma unroll 1
    for (int pass = 0; pass < 2 && !right; ++pass) {
      right = visit_chunk(chunk, keys, chunks, pass != 0);
    }
  }

 private:
  // False if the block has to visit the chunk again, with smaller weights.
  MASKED_ATTN_METHOD bool visit_chunk(int64_t chunk, Range keys, int64_t chunks, bool small) {
    rows_.reset(count_, small);
    for (int64_t key = keys.begin + warp_index() * kWarp; key < keys.end; key += kThreads) {
      visit({key, min_of(key + kWarp, keys.end)});
    }
    share_parts();
    block_barrier();
    bool right = true;
    for (int i = warp_index(); i < count_; i += kWarps) {
      right = merge_warps(i, chunk, chunks, small) && right;
    }
    return small || all_warps(right, 0);
  }

  static constexpr int kRows = kWarpRows<T>;
  static constexpr int64_t kPartStride = 2 + kColumns * kWarp;

  MASKED_ATTN_METHOD Place place(int i) const {
    const int64_t row = first_row_ + i;
    return {kv_head_ * (p_.heads / p_.kv_heads) + row / mask_.queries(),
            mask_.all_queries().begin + row % mask_.queries()};
  }

  MASKED_ATTN_METHOD void load_queries() {
    const T scale = static_cast<T>(p_.scale);
    for (int i = warp_index(); i < count_; i += kWarps) {
      const Place at = place(i);
      const int64_t from = row_offset(p_.query, batch_, at.head, at.query);
      for (int64_t d = lane_index(); d < p_.head_dim; d += kWarp) {
        query_.set(i * p_.head_dim + d, load_element<T>(p_.query, from + d) * scale);
      }
    }
  }

  // Which key of a piece a lane holds, and which lane holds a key.
  MASKED_ATTN_METHOD static int64_t key_of_lane() {
    return lane_index() % kKeyLanes * kKeysAtOnce + lane_index() / kKeyLanes;
  }
  MASKED_ATTN_METHOD static int lane_of_key(int64_t j) {
    return static_cast<int>(j % kKeysAtOnce * kKeyLanes + j / kKeysAtOnce);
  }

  MASKED_ATTN_METHOD void visit(Range piece) {
    if (!mask_.key_bits(batch_, piece.begin, length(piece))) return;
    T score[kRows];
    multiply_keys(piece, score);
    const int64_t key = piece.begin + key_of_lane();
    uint32_t any = 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i >= count_) break;
      const Place at = place(i);
      const bool seen = key < piece.end && sees(mask_, batch_, at.head, at.query, key);
      if (seen) score[i] = shaped_score(p_, mask_, batch_, at.head, at.query, key, score[i]);
      rows_.soften(i, score[i], seen);
      any |= rows_.seen(i);
    }
    if (any == 0) return;
    for (int64_t j = 0; j < length(piece); ++j) {
      const int lane = lane_of_key(j);
      if (any >> lane & 1) add_values(piece.begin + j, lane);
    }
  }

  // Each round, four keys; each of their lanes takes every eighth element of the head.
  MASKED_ATTN_METHOD void multiply_keys(Range piece, T (&score)[kRows]) {
    const int part = lane_index() % kKeyLanes;
#pragma unroll
    for (int i = 0; i < kRows; ++i) score[i] = T{0};
    for (int round = 0; round < kKeyLanes; ++round) {
      const int64_t key = piece.begin + round * kKeysAtOnce + lane_index() / kKeyLanes;
      const int64_t from = row_offset(p_.key, batch_, kv_head_, key);
      T sum[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) sum[i] = T{0};
      if (key < piece.end) {
        for (int64_t d = part; d < p_.head_dim; d += kKeyLanes) {
          const T value = load_element<T>(p_.key, from + d);
#pragma unroll
          for (int i = 0; i < kRows; ++i) {
            if (i >= count_) break;
            sum[i] = multiply_add(query_.get(i * p_.head_dim + d), value, sum[i]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (i >= count_) break;
        for (int mask = kKeyLanes / 2; mask > 0; mask /= 2) {
          sum[i] = sum[i] + shuffle_xor(sum[i], mask);
        }
        if (part == round) score[i] = sum[i];
      }
    }
  }

  MASKED_ATTN_METHOD void add_values(int64_t key, int lane) {
    const int64_t from = row_offset(p_.value, batch_, kv_head_, key);
    T values[kColumns];
    bool finite = true;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = c * kWarp + lane_index();
      values[c] = column < p_.value_dim ? load_element<T>(p_.value, from + column) : T{0};
      finite = finite && values[c] - values[c] == T{0};
    }
    rows_.add_values(values, lane, ballot(!finite) == 0);
  }

  MASKED_ATTN_METHOD int64_t part_offset(int warp, int i) const {
    return (warp * kRows + i) * kPartStride;
  }

  MASKED_ATTN_METHOD void share_parts() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i >= count_) break;
      const SoftmaxPart<T> part = rows_.total(i);
      const int64_t at = part_offset(warp_index(), i);
      if (lane_index() == 0) {
        parts_.set(at, part.max);
        parts_.set(at + 1, part.sum);
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        parts_.set(at + 2 + c * kWarp + lane_index(), rows_.out(i)[c]);
      }
    }
  }

  // False if the values overflowed.
  MASKED_ATTN_METHOD bool merge_warps(int i, int64_t chunk, int64_t chunks, bool small) {
    Merged<T, kColumns> merged;
    for (int warp = 0; warp < kWarps; ++warp) {
      const int64_t at = part_offset(warp, i);
      T values[kColumns];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        values[c] = parts_.get(at + 2 + c * kWarp + lane_index());
      }
      merged.add({parts_.get(at), parts_.get(at + 1)}, values);
    }
    const Place to = place(i);
    if (chunks <= 1) {
      merged.store(p_, batch_, to.head, to.query, small);
    } else {
      merged.keep(part_of<T>(p_, batch_, to.head, chunk), p_.value_dim, small);
    }
    return !merged.overflowed();
  }

  const AttentionParams& p_;
  const MaskView& mask_;
  Shared<T> query_;
  Shared<T> parts_;
  QueryRows<T, kColumns> rows_;
  int64_t batch_ = 0;
  int64_t kv_head_ = 0;
  int64_t first_row_ = 0;
  int count_ = 0;
};

// Blocks for one key head of one row. Either it has one query and may have many chunks, or its keys
// are one chunk.
template <class T>
MASKED_ATTN_DEVICE int64_t blocks_of_head(const AttentionParams& p) {
  const int64_t group = p.heads / p.kv_heads;
  return max_of(ceil_div(group, kWarpRows<T>) * max_chunks(p.mask),
                ceil_div(group * p.mask.queries, kWarpRows<T>));
}

template <class T, int kColumns>
MASKED_ATTN_KERNEL few(AttentionParams p) {
  const int64_t blocks = blocks_of_head<T>(p);
  const int64_t block_of_head = block_index() % blocks;
  const int64_t kv_head = block_index() / blocks % p.kv_heads;
  const int64_t batch = block_index() / (blocks * p.kv_heads);
  const MaskView mask = visible_mask(p, batch);
  const int64_t most_chunks = mask.queries() == 1 ? max_chunks(p.mask) : 1;
  const int64_t chunk = block_of_head % most_chunks;
  const int64_t row_block = block_of_head / most_chunks;
  if (row_block * kWarpRows<T> >= p.heads / p.kv_heads * mask.queries()) return;
  const Range keys = block_row_range(mask, batch, 0);
  if (!takes_few(mask.queries(), keys)) return;
  const int64_t chunks = ceil_div(length(keys), kKeyChunk);
  if (chunk > 0 && chunk >= chunks) return;
  const int64_t begin = keys.begin + chunk * kKeyChunk;
  FewBlock<T, kColumns> block(p, mask, layout_of<T, kColumns>(p.head_dim));
  block.run(batch, kv_head, row_block * kWarpRows<T>, chunk,
            {begin, min_of(begin + kKeyChunk, keys.end)}, chunks);
}

// One warp for each head of a row of one query, which may have more than one chunk.
template <class T, int kColumns>
MASKED_ATTN_KERNEL merge(AttentionParams p) {
  const int64_t head = block_index() % p.heads;
  const int64_t batch = block_index() / p.heads;
  const MaskView mask = visible_mask(p, batch);
  if (mask.queries() != 1) return;
  const int64_t chunks = ceil_div(length(block_row_range(mask, batch, 0)), kKeyChunk);
  if (chunks <= 1) return;
#pragma unroll 1
  for (int small = 0; small < 2; ++small) {
    Merged<T, kColumns> merged;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      merged.add(part_of<T>(p, batch, head, chunk), p.value_dim, small != 0);
    }
    merged.store(p, batch, head, mask.all_queries().begin, small != 0);
    if (!merged.overflowed()) return;
  }
}

template <class T>
Status run(const AttentionParams& p, Stream stream) {
  return with_columns(p.value_dim, [&]<int kColumns>() {
    const Status status = launch(few<T, kColumns>, p.batch * p.kv_heads * blocks_of_head<T>(p),
                                 kThreads, layout_of<T, kColumns>(p.head_dim).total, stream, p);
    if (status != 0 || max_chunks(p.mask) == 1) return status;
    return launch(merge<T, kColumns>, p.batch * p.heads, kWarp, kRangeBytes, stream, p);
  });
}

}  // namespace

Status attention_few(const AttentionParams& p, Stream stream) {
  return p.query.dtype == DType::kFloat64 ? run<double>(p, stream) : run<float>(p, stream);
}

}  // namespace masked_attn::cuda
