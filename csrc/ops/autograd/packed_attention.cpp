#include "../packed_attention.h"

#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

at::Tensor packed_attention_autograd(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value, const at::Tensor& cu_seqlens,
                                     c10::SymInt max_seqlen,
                                     const std::optional<at::Tensor>& cu_seqlens_k,
                                     std::optional<c10::SymInt> max_seqlen_k, bool causal,
                                     std::optional<int64_t> window, std::optional<double> scale) {
  refuse_gradient("packed_attention", kNotYet, query, key, value);
  at::AutoDispatchBelowADInplaceOrView guard;
  return packed_attention(query, key, value, cu_seqlens, std::move(max_seqlen), cu_seqlens_k,
                          std::move(max_seqlen_k), causal, window, scale);
}

std::tuple<at::Tensor, at::Tensor> packed_attention_forward_autograd(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& cu_seqlens, c10::SymInt max_seqlen,
    const std::optional<at::Tensor>& cu_seqlens_k, std::optional<c10::SymInt> max_seqlen_k,
    bool causal, std::optional<int64_t> window, std::optional<double> scale) {
  refuse_gradient("packed_attention", kNotYet, query, key, value);
  at::AutoDispatchBelowADInplaceOrView guard;
  return packed_attention_forward(query, key, value, cu_seqlens, std::move(max_seqlen),
                                  cu_seqlens_k, std::move(max_seqlen_k), causal, window, scale);
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) {
  m.impl("packed_attention", packed_attention_autograd);
  m.impl("_packed_attention_forward", packed_attention_forward_autograd);
}

}  // namespace masked_attn::autograd
