#include "plan.h"

#include "../mask.h"

namespace masked_attn::cpu {
namespace {

constexpr int64_t kAlignment = 64;
// Query, output and packed tiles of one block should stay in the second-level cache.
constexpr int64_t kBlockElements = 131072;

// Parts of the weights of 16 rows by a key tile, in bfloat16, and as many to read behind any row.
constexpr int64_t kTileParts = 2 * 16 * kWeightParts * kKeyTile / 2;

int64_t aligned(int64_t bytes) { return ceil_div(bytes, kAlignment) * kAlignment; }

int64_t compute_bytes(DType query) {
  return query == DType::kFloat64 ? sizeof(double) : sizeof(float);
}

// Visible pairs by position alone, estimated at the middle of each query tile.
int64_t pairs(const MaskView& mask, Range queries, Range keys) {
  int64_t total = 0;
  for (int64_t i = queries.begin; i < queries.end; i += kQueryTile) {
    const int64_t count = min_of(kQueryTile, queries.end - i);
    total += count * length(intersect(mask.position_range(i + count / 2), keys));
  }
  return total;
}

struct RowPlan {
  Range keys;  // from the first to the last visible key
  Path path;
};

RowPlan plan_row(const MaskView& mask, int64_t row) {
  const Range keys = mask.row_range(row);
  if (length(keys) == 0) return {{0, 0}, Path::kZero};
  return {keys, takes_few(mask.queries(), keys) ? Path::kFew : Path::kTiled};
}

class ItemWriter {
 public:
  explicit ItemWriter(Item* items) : items_(items) {}

  void zero(int64_t row, Range queries) {
    if (length(queries) > 0) items_[count_++] = {Path::kZero, row, queries, {0, 0}, 0, 1, 0};
  }

  // Each item takes `item_chunks` chunks.
  void few(const MaskView& mask, int64_t row, Range queries, Range keys, int64_t item_chunks) {
    const int64_t chunks = ceil_div(length(keys), kKeyChunk);
    for (int64_t i = queries.begin; i < queries.end; i += kFewBlock) {
      const Range block{i, min_of(i + kFewBlock, queries.end)};
      for (int64_t c = 0; c < chunks; c += item_chunks) {
        const int64_t begin = keys.begin + c * kKeyChunk;
        const Range part{begin, min_of(begin + item_chunks * kKeyChunk, keys.end)};
        const int64_t cost = length(part) + pairs(mask, block, part);
        items_[count_++] = {Path::kFew, row, block, part, c, chunks, cost};
      }
    }
  }

  // Cuts at whole query tiles, into blocks of equal size.
  void tiled(const MaskView& mask, int64_t row, Range queries, Range keys, int64_t block_queries) {
    const int64_t tiles = ceil_div(length(queries), kQueryTile);
    const int64_t blocks = ceil_div(tiles * kQueryTile, block_queries);
    const int64_t step = ceil_div(tiles, max_of(blocks, 1)) * kQueryTile;
    for (int64_t i = queries.begin; i < queries.end; i += step) {
      const Range block{i, min_of(i + step, queries.end)};
      items_[count_++] = {Path::kTiled, row, block, keys, 0, 1, pairs(mask, block, keys)};
    }
  }

  int64_t count() const { return count_; }

 private:
  Item* items_;
  int64_t count_ = 0;
};

void sift_down(Item* items, int64_t root, int64_t count) {
  for (;;) {
    int64_t child = 2 * root + 1;
    if (child >= count) return;
    if (child + 1 < count && items[child + 1].cost < items[child].cost) ++child;
    if (items[root].cost <= items[child].cost) return;
    const Item swapped = items[root];
    items[root] = items[child];
    items[child] = swapped;
    root = child;
  }
}

// Heap sort on a heap whose root is the cheapest: the result is costliest first.
void sort_costliest_first(Item* items, int64_t count) {
  for (int64_t i = count / 2 - 1; i >= 0; --i) sift_down(items, i, count);
  for (int64_t last = count - 1; last > 0; --last) {
    const Item cheapest = items[0];
    items[0] = items[last];
    items[last] = cheapest;
    sift_down(items, 0, last);
  }
}

// Chunks that one item of the few-query path takes: as many as leave every thread some items to
// choose from, because memory is read fastest in long runs. No bit of the result depends on it.
int64_t chunks_per_item(const AttentionParams& params) {
  constexpr int64_t kItemsPerThread = 8;
  const int64_t units = chunk_slots(params.mask, params.batch) * params.kv_heads;
  return max_of(1, units / (max_of(params.threads.count, 1) * kItemsPerThread));
}

// Each row may have two items of zeros, and blocks of queries or chunks of keys.
int64_t most_items(const AttentionParams& params) {
  const PackedRows& packed = params.mask.packed;
  if (is_packed(params.mask)) {
    return 4 * params.batch + packed.all_queries / kFewBlock + packed.all_keys / kKeyChunk;
  }
  const int64_t few_blocks = ceil_div(params.mask.queries, kFewBlock);
  return params.batch * (2 + max_of(few_blocks, ceil_div(params.mask.keys, kKeyChunk)));
}

}  // namespace

int64_t max_block_queries(int64_t head_dim, int64_t value_dim) {
  const int64_t tiles = kBlockElements / (max_of(head_dim + value_dim, 1) * kQueryTile);
  return min_of(max_of(tiles, 1), 10) * kQueryTile;
}

int64_t plan_attention(const AttentionParams& params, Item* items) {
  const int64_t block_queries = max_block_queries(params.head_dim, params.value_dim);
  const int64_t item_chunks = chunks_per_item(params);
  ItemWriter writer(items);
  for (int64_t row = 0; row < params.batch; ++row) {
    const MaskView mask(params.mask, row);
    const RowPlan plan = plan_row(mask, row);
    const Range queries = mask.seeing_queries(plan.keys);
    writer.zero(row, {mask.all_queries().begin, queries.begin});
    writer.zero(row, {queries.end, mask.all_queries().end});
    if (plan.path == Path::kFew) writer.few(mask, row, queries, plan.keys, item_chunks);
    if (plan.path == Path::kTiled) writer.tiled(mask, row, queries, plan.keys, block_queries);
  }
  sort_costliest_first(items, writer.count());
  return writer.count();
}

void plan_rows(const MaskParams& params, int64_t batch, Range* rows) {
  const MaskView mask(params);
  for (int64_t row = 0; row < batch; ++row) rows[row] = mask.row_range(row);
}

SharedLayout shared_layout(const AttentionParams& params) {
  SharedLayout layout{};
  layout.partial_bytes = (2 * params.value_dim + 2) * compute_bytes(params.query.dtype);
  layout.item_capacity = most_items(params);
  layout.counters = aligned(layout.item_capacity * static_cast<int64_t>(sizeof(Item)));
  layout.partials = layout.counters + aligned(params.batch * params.kv_heads * 4);
  layout.total = layout.partials;
  if (max_chunks(params.mask) > 1) {
    const int64_t partials = chunk_slots(params.mask, params.batch) * params.heads;
    layout.total += aligned(partials * layout.partial_bytes);
  }
  return layout;
}

WorkspaceSize attention_workspace(const AttentionParams& params) {
  // The largest vector is 16 floats; rows are padded to it.
  const int64_t query_stride = ceil_div(params.head_dim, 16) * 16;
  const int64_t value_stride = ceil_div(params.value_dim, 16) * 16;
  const int64_t block = max_block_queries(params.head_dim, params.value_dim);
  const int64_t tiled = block * (params.head_dim + value_stride + 2)   // query, output, state
                        + kKeyTile * (params.head_dim + value_stride)  // packed tile
                        + kKeyTile * kPanel                            // values with holes
                        + kQueryTile * kKeyTile + 4 * params.head_dim  // scores, four rows
                        + kTileParts;
  const int64_t tiled_bits = kQueryTile * static_cast<int64_t>(sizeof(uint64_t));
  const int64_t rows = kFewBlock * (params.kv_heads ? params.heads / params.kv_heads : 0);
  const int64_t few =
      rows * (query_stride + 2 * value_stride + 2 + kKeyTile);  // and waiting sums, scores
  const int64_t few_blocks = 3 * rows * static_cast<int64_t>(sizeof(uint64_t));
  const int64_t bytes = compute_bytes(params.query.dtype);
  // Each part is rounded up to the alignment.
  return {shared_layout(params).total,
          aligned(max_of(tiled * bytes + tiled_bits, few * bytes + few_blocks)) + 16 * kAlignment};
}

WorkspaceSize softmax_workspace(const SoftmaxParams& params) {
  const int64_t columns = ceil_div(params.mask.keys, kKeyTile) * kKeyTile + kKeyTile;
  return {aligned(params.batch * static_cast<int64_t>(sizeof(Range))),
          aligned(columns * compute_bytes(params.scores.dtype))};
}

WorkspaceSize linear_workspace(const LinearParams& params) {
  const int64_t rows = min_of(params.rows, kLinearRows);
  const int64_t few = rows <= kFewRows ? rows : 0;
  const int64_t input = max_of(kPackedRows, few * ceil_div(params.inputs, kInputPanel));
  const int64_t panels = kLinearOutputs * (rows + few + kInputPanel + 1)  // totals, chains, weight
                         + input * kInputPanel;                           // and bias
  const int64_t stream = kStreamOutputs * (2 * kStreamRows + 1)           // totals, chains, bias
                         + kStreamRows * kInputPanel + 8 * 16;            // input, edge
  constexpr int64_t kMostLanes = 16;
  const int64_t padded =
      rows <= kLaneVectors * kMostLanes ? ceil_div(rows, kMostLanes) * kMostLanes : 0;
  const int64_t lanes = padded * (params.inputs + 2 * kLaneBlock) + kInputPanel + kLaneBlock;
  // Squares need less than panels: an input and the totals of a vector.
  const int64_t bytes = compute_bytes(params.input.dtype);
  return {0, aligned(max_of(max_of(panels, stream), lanes) * bytes) + 8 * kAlignment};
}

VisiblePlan visible_plan(const MaskParams& params, int64_t row) {
  const MaskView mask(params);
  const RowPlan plan = plan_row(mask, row);
  const Range queries = mask.seeing_queries(plan.keys);
  VisiblePlan result{plan.keys, plan.path, 0, 0};
  for (int64_t i = queries.begin; i < queries.end; i += kQueryTile) {
    const int64_t last = min_of(i + kQueryTile, queries.end);
    for (int64_t key = plan.keys.begin; key < plan.keys.end; key += kKeyTile) {
      const int64_t count = min_of(kKeyTile, plan.keys.end - key);
      uint64_t seen = 0;
      for (int64_t query = i; query < last; ++query) seen |= mask.position_bits(query, key, count);
      if (seen & mask.key_bits(row, key, count)) ++result.tiles_visited;
    }
  }
  const int64_t all = ceil_div(params.queries, kQueryTile) * ceil_div(params.keys, kKeyTile);
  result.tiles_skipped = max_of(all - result.tiles_visited, 0);
  return result;
}

}  // namespace masked_attn::cpu
