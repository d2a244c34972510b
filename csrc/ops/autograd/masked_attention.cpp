#include "../masked_attention.h"

#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

at::Tensor masked_attention_autograd(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value,
                                     const std::optional<at::Tensor>& key_mask,
                                     const std::optional<at::Tensor>& attn_mask, bool causal,
                                     std::optional<int64_t> window, std::optional<double> scale,
                                     double dropout_p) {
  refuse_gradient("masked_attention", kNotYet, query, key, value, attn_mask);
  at::AutoDispatchBelowADInplaceOrView guard;
  return masked_attention(query, key, value, key_mask, attn_mask, causal, window, scale, dropout_p);
}

std::tuple<at::Tensor, at::Tensor> masked_attention_forward_autograd(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask, const std::optional<at::Tensor>& attn_mask,
    bool causal, std::optional<int64_t> window, std::optional<double> scale, double dropout_p) {
  refuse_gradient("masked_attention", kNotYet, query, key, value, attn_mask);
  at::AutoDispatchBelowADInplaceOrView guard;
  return masked_attention_forward(query, key, value, key_mask, attn_mask, causal, window, scale,
                                  dropout_p);
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) {
  m.impl("masked_attention", masked_attention_autograd);
  m.impl("_masked_attention_forward", masked_attention_forward_autograd);
}

}  // namespace masked_attn::autograd
