// The CPU, for the operators of any_device: kernels of the selected instruction set on torch's
// threads.
#pragma once

#include "../params.h"

namespace masked_attn::cpu {

struct Device {
  static void check_head_sizes(const char*, int64_t, int64_t) {}  // any size

  // Kernels trust the values, so they are checked before anything is read.
  static void check_offsets(const char* op, const PackedLengths& lengths, int64_t queries,
                            int64_t keys);

  // The position can be read here; it is clamped.
  static CacheSlots slots(const at::Tensor& position, int64_t queries, int64_t capacity);

  static void run(const char* op, AttentionParams& params, const at::Tensor&);
  static void run(const char* op, SoftmaxParams& params, const at::Tensor&);
  static void run(const char* op, ExpandParams& params, const at::Tensor&);
  static void run(const char* op, AppendParams& params, const at::Tensor&);
  static void linear(const Linear& op, at::Tensor& out);
};

}  // namespace masked_attn::cpu
