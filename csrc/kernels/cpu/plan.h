// Who does what in attention: cuts a batch into items of similar cost by what is visible, and says
// how much scratch memory they need. Compiled once, without the flags of any instruction set.
#pragma once

#include "../api.h"
#include "../params.h"

namespace masked_attn::cpu {

// The tiled path works on tiles of this many queries, in blocks of at most `max_block_queries`.
constexpr int64_t kQueryTile = 48;
// Its products take at most this many elements of a head, or columns of values, at once.
constexpr int64_t kPanel = 64;
// In tiles of bfloat16 a weight is the sum of so many parts (attention_tiles.h).
constexpr int64_t kWeightParts = 3;
// The few-query path takes at most this many queries of a head at once.
constexpr int64_t kFewBlock = 8;

enum class Path : int32_t {
  kZero,   // queries that see nothing; one work unit for all heads
  kFew,    // one pass over some chunks of keys for a few queries; one work unit per key head
  kTiled,  // query tiles against packed key tiles; one work unit per head
};

struct Item {
  Path path;
  int64_t row;
  Range queries;
  Range keys;      // some chunks (few) or the row's whole visible range (tiled)
  int64_t chunk;   // index of the first chunk
  int64_t chunks;  // chunks of the row
  int64_t cost;    // about the number of visible (query, key) pairs per head
};

// Where the parts of the shared workspace begin, in bytes.
struct SharedLayout {
  int64_t item_capacity;
  int64_t counters;
  int64_t partials;
  int64_t partial_bytes;  // one partial result: maximum, sum, weighted values twice (overflow.h)
  int64_t total;
};

int64_t max_block_queries(int64_t head_dim, int64_t value_dim);
SharedLayout shared_layout(const AttentionParams& params);
MASKED_ATTN_KERNELS_API WorkspaceSize attention_workspace(const AttentionParams& params);
MASKED_ATTN_KERNELS_API WorkspaceSize softmax_workspace(const SoftmaxParams& params);

// linear adds up panels of this many inputs: part of the definition of its sums.
constexpr int64_t kInputPanel = 256;
// Rows and outputs whose totals a worker keeps, and rows of x that are packed at a time.
constexpr int64_t kLinearRows = 768;
constexpr int64_t kLinearOutputs = 384;
constexpr int64_t kPackedRows = 96;
// So few rows are packed once for all outputs, and their sums kept within a panel, too.
constexpr int64_t kFewRows = 64;
// Rows that the loops without packing take at most, of a weight [K, N] and [N, K].
constexpr int64_t kStreamRows = 4;
constexpr int64_t kSquareRows = 8;
// Vectors of rows that the loop over lanes takes at most, and outputs that it finishes at a time.
constexpr int64_t kLaneVectors = 3;
constexpr int64_t kLaneBlock = 96;
// Outputs that are streamed at a time.
constexpr int64_t kStreamOutputs = 1024;
MASKED_ATTN_KERNELS_API WorkspaceSize linear_workspace(const LinearParams& params);

// Fills `items`, the costliest first, and returns their number.
int64_t plan_attention(const AttentionParams& params, Item* items);

// Fills one range per batch row: from its first to its last visible key.
void plan_rows(const MaskParams& mask, int64_t batch, Range* rows);

// What the tiled path does with one batch row, for reports and pictures.
struct VisiblePlan {
  Range keys;
  Path path;
  int64_t tiles_visited;  // (query tile, key tile) pairs with something visible
  int64_t tiles_skipped;
};

MASKED_ATTN_KERNELS_API VisiblePlan visible_plan(const MaskParams& mask, int64_t row);

}  // namespace masked_attn::cpu
