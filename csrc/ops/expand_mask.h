// expand_mask: [batch, keys] 0/1 -> [batch, 1, queries, keys], 0 where visible, `fill` elsewhere.
#pragma once

#include <ATen/ATen.h>

#include "api.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers. `fill` nullopt means -inf.
MASKED_ATTN_API at::Tensor expand_mask(const at::Tensor& mask, at::ScalarType dtype,
                                       std::optional<c10::SymInt> query_length = std::nullopt,
                                       bool causal = false,
                                       std::optional<int64_t> window = std::nullopt,
                                       std::optional<double> fill = std::nullopt);

// Checks everything and returns an empty result of the right shape.
at::Tensor expand_mask_meta(const at::Tensor& mask, at::ScalarType dtype,
                            std::optional<c10::SymInt> query_length, bool causal,
                            std::optional<int64_t> window, std::optional<double> fill);

}  // namespace masked_attn
