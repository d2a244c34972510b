// masked_softmax: softmax(scale * scores + mask) over the visible keys, [batch, heads, queries,
// keys].
#pragma once

#include <ATen/ATen.h>

#include "api.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor masked_softmax(const at::Tensor& scores,
                                          const std::optional<at::Tensor>& key_mask = std::nullopt,
                                          const std::optional<at::Tensor>& attn_mask = std::nullopt,
                                          bool causal = false,
                                          std::optional<int64_t> window = std::nullopt,
                                          double scale = 1.0);

// Checks everything and returns an empty result of the right shape.
at::Tensor masked_softmax_meta(const at::Tensor& scores, const std::optional<at::Tensor>& key_mask,
                               const std::optional<at::Tensor>& attn_mask, bool causal,
                               std::optional<int64_t> window, double scale);

}  // namespace masked_attn
