// The doors of the CPU kernels: each exists once per instruction set, in a namespace of its name.
// All return 0, or the error code of the caller's threads.
#pragma once

#include "../half.h"  // makes the namespace of this target an inline one
#include "../params.h"

#define MASKED_ATTN_DECLARE_KERNELS(target)     \
  namespace target {                            \
  int32_t attention(const AttentionParams&);    \
  int32_t masked_softmax(const SoftmaxParams&); \
  int32_t expand_mask(const ExpandParams&);     \
  int32_t append_cache(const AppendParams&);    \
  int32_t linear(const LinearParams&);          \
  }

namespace masked_attn {
MASKED_ATTN_DECLARE_KERNELS(MASKED_ATTN_TARGET)
}  // namespace masked_attn
