#include "../expand_mask.h"

#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

at::Tensor expand_mask_autograd(const at::Tensor& mask, at::ScalarType dtype,
                                std::optional<c10::SymInt> query_length, bool causal,
                                std::optional<int64_t> window, std::optional<double> fill) {
  refuse_gradient("expand_mask", kNever, mask);
  at::AutoDispatchBelowADInplaceOrView guard;
  return expand_mask(mask, dtype, std::move(query_length), causal, window, fill);
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) { m.impl("expand_mask", expand_mask_autograd); }

}  // namespace masked_attn::autograd
