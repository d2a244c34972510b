// What attention may be told besides its tensors: one struct from the schema to the kernels, and
// the last argument of the functions for C++ callers. An operator refuses what it does not take.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace masked_attn {

struct AttentionOptions {
  std::optional<at::Tensor> key_mask = std::nullopt;  // bool [batch, keys], true = may be seen
  // Bool or float, broadcastable to [batch, heads, queries, keys].
  std::optional<at::Tensor> attn_mask = std::nullopt;
  bool causal = false;  // the last query sees the last key
  std::optional<int64_t> window = std::nullopt;
  std::optional<double> scale = std::nullopt;    // none: head_dim ** -0.5
  std::optional<double> softcap = std::nullopt;  // score = softcap * tanh(score / softcap)
  // [heads]: a score that takes weight and gives no value.
  std::optional<at::Tensor> sinks = std::nullopt;
  // [heads] or [batch, heads]: what a score loses for each key of distance.
  std::optional<at::Tensor> alibi_slopes = std::nullopt;
  double dropout_p = 0.0;
};

}  // namespace masked_attn
