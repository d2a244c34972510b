// masked_attention: [batch, heads, queries, head_dim] attends over [batch, kv_heads, keys,
// head_dim] without ever building the scores. The result lies in memory as [batch, queries, heads,
// value_dim], so that merging the heads afterwards is free.
#pragma once

#include <ATen/ATen.h>

#include <tuple>

#include "api.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor masked_attention(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask = std::nullopt,
    const std::optional<at::Tensor>& attn_mask = std::nullopt, bool causal = false,
    std::optional<int64_t> window = std::nullopt, std::optional<double> scale = std::nullopt,
    double dropout_p = 0.0);

// The same, with the log-sum-exp [batch, heads, queries]: float32, float64 for float64.
MASKED_ATTN_API std::tuple<at::Tensor, at::Tensor> masked_attention_forward(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask = std::nullopt,
    const std::optional<at::Tensor>& attn_mask = std::nullopt, bool causal = false,
    std::optional<int64_t> window = std::nullopt, std::optional<double> scale = std::nullopt,
    double dropout_p = 0.0);

// Check everything and return empty results of the right shape.
at::Tensor masked_attention_meta(const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask, bool causal,
                                 std::optional<int64_t> window, std::optional<double> scale,
                                 double dropout_p);
std::tuple<at::Tensor, at::Tensor> masked_attention_forward_meta(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask, const std::optional<at::Tensor>& attn_mask,
    bool causal, std::optional<int64_t> window, std::optional<double> scale, double dropout_p);

// Empty [batch, heads, queries, value_dim] for attention, with the memory order described above.
at::Tensor empty_attention_output(const at::Tensor& query, const c10::SymInt& value_dim);

// `scale`, or head_dim ** -0.5, or 1 for heads of size 0.
double attention_scale(std::optional<double> scale, int64_t head_dim);

}  // namespace masked_attn
