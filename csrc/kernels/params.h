// What operators hand to kernels: pointers, sizes, element strides. Knows no torch and owns
// nothing.
#pragma once

#include <stdint.h>

namespace masked_attn {

enum class DType : int32_t { kFloat32, kFloat64, kFloat16, kBFloat16, kBool };

// The caller's threads: the exact type of torch's `torch_parallel_for`. Returns 0, or an error
// code.
using ParallelFunc = void (*)(int64_t begin, int64_t end, void* context);
using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, ParallelFunc function,
                                void* context);

// Keys are visited in tiles of this many, counted from the first visible key of a batch row. One
// tile's visibility fits one 64-bit word, bit j for key j of the tile.
constexpr int64_t kKeyTile = 64;
// A batch row of several queries takes the few-query path iff its visible range has at most this
// many keys (`takes_few` in rows.h).
constexpr int64_t kFewKeys = 8;
// The few-query path splits a row of one query over its visible keys in chunks of this many, merged
// in order.
constexpr int64_t kKeyChunk = 256;

// Queries or keys from `begin` up to, not including, `end`; empty when end <= begin.
struct Range {
  int64_t begin;
  int64_t end;
};

// A [batch, heads, rows, columns] tensor. The last dimension is contiguous. Without columns, the
// rows are.
struct TensorView {
  void* data;
  DType dtype;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
};

// Sequences back to back, without padding: row r of the batch has the queries from
// `query_offsets[r]` up to `query_offsets[r + 1]`, and keys likewise. Both are indices in tensors
// whose batch stride is 0.
struct PackedRows {
  const int64_t* query_offsets;  // [batch + 1], null: every row is padded to the same sizes
  const int64_t* key_offsets;    // [batch + 1]
  int64_t all_queries;
  int64_t all_keys;
};

// Everything that decides which query sees which key; `MaskView` (mask.h) reads it.
struct MaskParams {
  int64_t queries;  // of each row; packed: of the longest, at least
  int64_t keys;
  PackedRows packed;
  const uint8_t* key_mask;  // [batch, keys], null: every key may be seen
  int64_t key_mask_strides[2];
  const void* attn_mask;  // [batch, heads, queries, keys] with broadcast strides, null: none
  DType attn_mask_dtype;
  int64_t attn_mask_strides[4];
  bool causal;
  int64_t window;  // 0: no window
};

// Scratch memory, owned by the caller: one part that all workers share, one slice for each worker.
struct Workspace {
  char* shared;
  char* workers;
  int64_t worker_bytes;
};

struct WorkspaceSize {
  int64_t shared_bytes;
  int64_t worker_bytes;
};

struct Threads {
  ParallelFor parallel_for;
  int64_t count;
};

// One number for each head of each row, [batch, heads], in the dtype of the sums: float, or double
// for double. Null data: none.
struct HeadValues {
  const void* data;
  int64_t batch_stride;  // 0: the same for every row
};

struct AttentionParams {
  int64_t batch;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t value_dim;
  TensorView out;        // [batch, heads, queries, value_dim]
  TensorView logsumexp;  // [batch, heads, queries], float (double for double); data may be null
  TensorView query;      // [batch, heads, queries, head_dim]
  TensorView key;        // [batch, kv_heads, keys, head_dim]
  TensorView value;      // [batch, kv_heads, keys, value_dim]
  MaskParams mask;
  // CUDA: if not null, the new keys begin at this slot, known to the device only, and the keys end
  // behind them; `mask.keys` is then the capacity of the cache.
  const int64_t* device_position;
  // score = softcap * tanh(scale * dot / softcap) - slope * distance, where the last query stands
  // at the last key.
  double scale;
  double softcap;           // 0: none
  HeadValues alibi_slopes;  // `slope`
  HeadValues sinks;         // takes weight as a score does, and gives no value
  Workspace workspace;
  Threads threads;
};

struct SoftmaxParams {
  int64_t batch;
  int64_t heads;
  TensorView out;     // [batch, heads, queries, keys]
  TensorView scores;  // [batch, heads, queries, keys]
  MaskParams mask;
  double scale;
  Workspace workspace;
  Threads threads;
};

struct ExpandParams {
  int64_t batch;
  void* out;  // [batch, queries, keys] contiguous
  int64_t element_bytes;
  uint64_t fill_bits;  // the masked value as it lies in memory; visible is all zero bits
  MaskParams mask;
  Threads threads;
};

// Copies `source` into `cache` at rows [position, position + rows). CUDA: the position is read from
// `device_position` if that is not null, and moved so that the rows fit into the capacity.
struct AppendParams {
  int64_t batch;
  int64_t heads;
  int64_t rows;
  int64_t columns;
  int64_t position;
  const int64_t* device_position;
  int64_t capacity;
  TensorView cache;
  TensorView source;
  Threads threads;
};

// What follows the sum of a linear layer.
enum class Activation : int32_t { kNone, kGeluTanh, kGelu, kSilu, kRelu };

// out[m, n] = activation(bias[n] + sum over k of input[m, k] * weight[n, k]) * multiplier[m, n];
// weight[k, n] if `transposed`. Only data, dtype and row stride of the views count.
struct LinearParams {
  int64_t rows;           // M
  int64_t inputs;         // K
  int64_t outputs;        // N
  TensorView out;         // [M, N]
  TensorView input;       // [M, K]
  TensorView weight;      // [N, K], or [K, N] if `transposed`
  TensorView bias;        // [N], null data: none
  TensorView multiplier;  // [M, N] of the dtype of `out`, null data: none
  Activation activation;
  bool transposed;
  Workspace workspace;
  Threads threads;
};

}  // namespace masked_attn
