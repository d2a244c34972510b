// What warps and blocks do together: reductions, the visible range of a row, typed loads and
// stores.
#pragma once

#include <math.h>

#include "../mask.h"
#include "device.h"

#if defined(__CUDACC__)
#define MASKED_ATTN_INLINE __device__ inline
#define MASKED_ATTN_METHOD __device__
#else
#define MASKED_ATTN_INLINE inline
#define MASKED_ATTN_METHOD
#endif

namespace masked_attn::cuda {

MASKED_ATTN_INLINE float negative_infinity(float) { return -INFINITY; }
MASKED_ATTN_INLINE double negative_infinity(double) { return -static_cast<double>(INFINITY); }

// e^x for x <= 0; exactly 0 where the CPU kernels have it, too: see docs/numerics.md. NaN stays
// NaN.
MASKED_ATTN_INLINE float weight_of(float x) { return x < -87.33f ? 0.0f : expf(x); }
MASKED_ATTN_INLINE double weight_of(double x) { return x < -708.39 ? 0.0 : exp(x); }

template <class T>
MASKED_ATTN_INLINE T multiply_add(T a, T b, T c) {
  return sizeof(T) == sizeof(float) ? static_cast<T>(fmaf(a, b, c)) : static_cast<T>(fma(a, b, c));
}

// All lanes get the same bits: each step adds or compares the same two values on both sides.
template <class T>
MASKED_ATTN_INLINE T warp_sum(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = value + shuffle_xor(value, mask);
  return value;
}
template <class T>
MASKED_ATTN_INLINE T warp_max(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const T other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// Shared memory that `block_row_range` takes at `offset`.
constexpr int64_t kRangeBytes = 2 * 32 * sizeof(int64_t);

// From the first to the last key that the key mask shows, found by the whole block.
MASKED_ATTN_INLINE Range block_row_range(const MaskView& mask, int64_t row, int64_t offset) {
  if (!mask.has_key_mask()) return mask.all_keys();
  int64_t first = mask.keys();
  int64_t last = -1;
  for (int64_t key = thread_index(); key < mask.keys(); key += block_threads()) {
    if (!mask.key_bits(row, key, 1)) continue;
    if (first > key) first = key;
    last = key;
  }
  first = -warp_max(-first);
  last = warp_max(last);
  const int warps = block_threads() / kWarp;
  const Shared<int64_t> ranges(offset, 2 * warps);
  if (lane_index() == 0) {
    ranges.set(2 * warp_index(), first);
    ranges.set(2 * warp_index() + 1, last);
  }
  block_barrier();
  for (int warp = 0; warp < warps; ++warp) {
    first = min_of(first, ranges.get(2 * warp));
    last = max_of(last, ranges.get(2 * warp + 1));
  }
  block_barrier();
  return last < first ? Range{0, 0} : Range{first, last + 1};
}

// Whether all warps of the block say so, in the shared memory of `block_row_range`. Every lane of a
// warp says the same, and every thread of the block gets the answer.
MASKED_ATTN_INLINE bool all_warps(bool answer, int64_t offset) {
  const int warps = block_threads() / kWarp;
  const Shared<int32_t> answers(offset, warps);
  if (lane_index() == 0) answers.set(warp_index(), answer);
  block_barrier();
  bool all = true;
  for (int warp = 0; warp < warps; ++warp) all = all && answers.get(warp) != 0;
  block_barrier();
  return all;
}

// One element of a tensor, in the type of computation.
template <class T>
MASKED_ATTN_INLINE T load_element(const TensorView& view, int64_t offset) {
  switch (view.dtype) {
    case DType::kFloat16:
      return static_cast<T>(to_float(static_cast<const Half*>(view.data)[offset]));
    case DType::kBFloat16:
      return static_cast<T>(to_float(static_cast<const BFloat16*>(view.data)[offset]));
    case DType::kFloat64:
      return static_cast<T>(static_cast<const double*>(view.data)[offset]);
    default:
      return static_cast<T>(static_cast<const float*>(view.data)[offset]);
  }
}

template <class T>
MASKED_ATTN_INLINE void store_element(const TensorView& view, int64_t offset, T value) {
  switch (view.dtype) {
    case DType::kFloat16:
      return from_float(static_cast<float>(value), static_cast<Half*>(view.data) + offset);
    case DType::kBFloat16:
      return from_float(static_cast<float>(value), static_cast<BFloat16*>(view.data) + offset);
    case DType::kFloat64:
      static_cast<double*>(view.data)[offset] = static_cast<double>(value);
      return;
    default:
      static_cast<float*>(view.data)[offset] = static_cast<float>(value);
  }
}

MASKED_ATTN_INLINE int64_t row_offset(const TensorView& view, int64_t batch, int64_t head,
                                      int64_t row) {
  return batch * view.batch_stride + head * view.head_stride + row * view.row_stride;
}

// The first slot of a cache that is written; where it is known to the device only, it is moved into
// the cache, because nobody could be told of an error.
MASKED_ATTN_INLINE int64_t first_slot(int64_t position, const int64_t* device_position,
                                      int64_t capacity, int64_t rows) {
  if (device_position == nullptr) return position;
  return max_of(0, min_of(*device_position, capacity - rows));
}

// Whether a query sees a key, by all rules together.
MASKED_ATTN_INLINE bool sees(const MaskView& mask, int64_t row, int64_t head, int64_t query,
                             int64_t key) {
  return mask.key_bits(row, key, 1) && mask.position_bits(query, key, 1) &&
         mask.attn_bits(row, head, query, key, 1);
}

}  // namespace masked_attn::cuda
