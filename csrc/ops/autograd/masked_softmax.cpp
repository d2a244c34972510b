#include "../masked_softmax.h"

#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

at::Tensor masked_softmax_autograd(const at::Tensor& scores,
                                   const std::optional<at::Tensor>& key_mask,
                                   const std::optional<at::Tensor>& attn_mask, bool causal,
                                   std::optional<int64_t> window, double scale) {
  refuse_gradient("masked_softmax", kNotYet, scores, attn_mask);
  at::AutoDispatchBelowADInplaceOrView guard;
  return masked_softmax(scores, key_mask, attn_mask, causal, window, scale);
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) { m.impl("masked_softmax", masked_softmax_autograd); }

}  // namespace masked_attn::autograd
