// masked_attention: [batch, heads, queries, head_dim] attends over [batch, kv_heads, keys,
// head_dim] without ever building the scores. The result lies in memory as [batch, queries, heads,
// value_dim], so that merging the heads afterwards is free.
#pragma once

#include "api.h"
#include "attention_options.h"
#include "dispatch.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor masked_attention(const at::Tensor& query, const at::Tensor& key,
                                            const at::Tensor& value,
                                            const AttentionOptions& options = {});

// The same, with the log-sum-exp [batch, heads, queries]: float32, float64 for float64.
MASKED_ATTN_API OutAndLogsumexp masked_attention_forward(const at::Tensor& query,
                                                         const at::Tensor& key,
                                                         const at::Tensor& value,
                                                         const AttentionOptions& options = {});

struct MaskedAttention {
  static constexpr char kName[] = "masked_attention";
  const at::Tensor& query;
  const at::Tensor& key;
  const at::Tensor& value;
  const AttentionOptions& options;

  auto own() const { return std::tie(query, key, value); }
  using O = AttentionOptions;
  using Options = Members<&O::key_mask, &O::attn_mask, &O::causal, &O::window, &O::scale,
                          &O::softcap, &O::sinks, &O::alibi_slopes, &O::dropout_p>;
};

// Check everything and return empty results of the right shape.
at::Tensor checked_output(const MaskedAttention& op);
at::Tensor empty_logsumexp(const MaskedAttention& op);

// Empty [batch, heads, queries, value_dim] for attention, with the memory order described above.
at::Tensor empty_attention_output(const at::Tensor& query, const c10::SymInt& value_dim);

// `scale`, or head_dim ** -0.5, or 1 for heads of size 0.
double attention_scale(std::optional<double> scale, int64_t head_dim);

}  // namespace masked_attn
