#include "../skinny_linear.h"

#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

at::Tensor skinny_linear_autograd(const at::Tensor& input, const at::Tensor& weight,
                                  const std::optional<at::Tensor>& bias, bool transposed) {
  refuse_gradient("skinny_linear", kNever, input, weight, bias);
  at::AutoDispatchBelowADInplaceOrView guard;
  return skinny_linear(input, weight, bias, transposed);
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) { m.impl("skinny_linear", skinny_linear_autograd); }

}  // namespace masked_attn::autograd
