// cached_attention: writes new keys and values into the caches at `position`, then attends causally
// over all that is there. The first overload knows the position on the host; the second reads it on
// the device, where it is clamped to [0, capacity - queries].
#pragma once

#include <ATen/ATen.h>

#include "api.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor cached_attention(
    const at::Tensor& query, const at::Tensor& new_key, const at::Tensor& new_value,
    at::Tensor& key_cache, at::Tensor& value_cache, c10::SymInt position,
    const std::optional<at::Tensor>& key_mask = std::nullopt,
    const std::optional<at::Tensor>& attn_mask = std::nullopt,
    std::optional<int64_t> window = std::nullopt, std::optional<double> scale = std::nullopt);

MASKED_ATTN_API at::Tensor cached_attention(
    const at::Tensor& query, const at::Tensor& new_key, const at::Tensor& new_value,
    at::Tensor& key_cache, at::Tensor& value_cache, const at::Tensor& position,
    const std::optional<at::Tensor>& key_mask = std::nullopt,
    const std::optional<at::Tensor>& attn_mask = std::nullopt,
    std::optional<int64_t> window = std::nullopt, std::optional<double> scale = std::nullopt);

// Check everything and return an empty result of the right shape.
at::Tensor cached_attention_meta(const at::Tensor& query, const at::Tensor& new_key,
                                 const at::Tensor& new_value, at::Tensor& key_cache,
                                 at::Tensor& value_cache, c10::SymInt position,
                                 const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask,
                                 std::optional<int64_t> window, std::optional<double> scale);
at::Tensor cached_attention_device_meta(const at::Tensor& query, const at::Tensor& new_key,
                                        const at::Tensor& new_value, at::Tensor& key_cache,
                                        at::Tensor& value_cache, const at::Tensor& position,
                                        const std::optional<at::Tensor>& key_mask,
                                        const std::optional<at::Tensor>& attn_mask,
                                        std::optional<int64_t> window, std::optional<double> scale);

}  // namespace masked_attn
