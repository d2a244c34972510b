// The attention kernel on tensors, for every operator that attends.
#pragma once

#include <ATen/ATen.h>

namespace masked_attn::cpu {

struct AttendOptions {
  const std::optional<at::Tensor>& key_mask;
  const std::optional<at::Tensor>& attn_mask;
  bool causal;
  std::optional<int64_t> window;
  std::optional<double> scale;
};

// Fills `out` [batch, heads, queries, value_dim] and, if defined, `logsumexp`. All arguments are
// checked already.
void attend(const char* op, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const AttendOptions& options, at::Tensor& out, at::Tensor& logsumexp);

}  // namespace masked_attn::cpu
