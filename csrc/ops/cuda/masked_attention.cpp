#include "../masked_attention.h"

#include <torch/library.h>

#include "attend.h"

namespace masked_attn::cuda {
namespace {

at::Tensor masked_attention_cuda(const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask, bool causal,
                                 std::optional<int64_t> window, std::optional<double> scale,
                                 double dropout_p) {
  at::Tensor out = masked_attention_meta(query, key, value, key_mask, attn_mask, causal, window,
                                         scale, dropout_p);
  check_head_sizes("masked_attention", query, value);
  at::Tensor no_logsumexp;
  attend("masked_attention", query, key, value, {key_mask, attn_mask, causal, window, scale}, {},
         out, no_logsumexp);
  return out;
}

std::tuple<at::Tensor, at::Tensor> masked_attention_forward_cuda(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask, const std::optional<at::Tensor>& attn_mask,
    bool causal, std::optional<int64_t> window, std::optional<double> scale, double dropout_p) {
  auto [out, logsumexp] = masked_attention_forward_meta(query, key, value, key_mask, attn_mask,
                                                        causal, window, scale, dropout_p);
  check_head_sizes("masked_attention", query, value);
  attend("masked_attention", query, key, value, {key_mask, attn_mask, causal, window, scale}, {},
         out, logsumexp);
  return {out, logsumexp};
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) {
  m.impl("masked_attention", masked_attention_cuda);
  m.impl("_masked_attention_forward", masked_attention_forward_cuda);
}

}  // namespace masked_attn::cuda
