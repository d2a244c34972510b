// A GPU, for the operators of any_device: kernels on the current stream, and nothing waits for it.
#pragma once

#include "../params.h"

namespace masked_attn::cuda {

struct Device {
  static void check_head_sizes(const char* op, int64_t head_dim, int64_t value_dim);

  // The values are known to the device only; the kernels keep them in the tensors.
  static void check_offsets(const char*, const PackedLengths&, int64_t, int64_t) {}

  // Kernels read the position, and clamp it.
  static CacheSlots slots(const at::Tensor& position, int64_t queries, int64_t capacity);

  static void run(const char* op, AttentionParams& params, const at::Tensor& query);
  static void run(const char* op, SoftmaxParams& params, const at::Tensor& scores);
  static void run(const char* op, ExpandParams& params, const at::Tensor& mask);
  static void run(const char* op, AppendParams& params, const at::Tensor& source);
  static void linear(const Linear& op, at::Tensor& out);
};

}  // namespace masked_attn::cuda
