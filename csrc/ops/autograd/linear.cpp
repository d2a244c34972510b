#include "../linear.h"

#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

at::Tensor linear_autograd(const at::Tensor& input, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, bool transposed,
                           std::optional<std::string_view> activation,
                           const std::optional<at::Tensor>& multiplier) {
  refuse_gradient("linear", kNever, input, weight, bias, multiplier);
  at::AutoDispatchBelowADInplaceOrView guard;
  return linear(input, weight, bias, {transposed, activation, multiplier});
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) { m.impl("linear", linear_autograd); }

}  // namespace masked_attn::autograd
