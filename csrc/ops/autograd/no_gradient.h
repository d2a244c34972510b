// Until an operator has a gradient it says so: a missing one must never be a silent None.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <initializer_list>
#include <optional>

namespace masked_attn::autograd {

inline bool wants_gradient(const at::Tensor& tensor) {
  if (!tensor.defined()) return false;
  // no_grad stops backward mode only: a tangent would be lost without a word.
  const bool backward = at::GradMode::is_enabled() && tensor.requires_grad();
  return backward || tensor._fw_grad(/*level=*/0).defined();
}

inline bool wants_gradient(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() && wants_gradient(*tensor);
}

// Raises when one of the arguments wants a gradient. `advice` says what to do.
template <class... Arguments>
void refuse_gradient(const char* op, const char* advice, const Arguments&... arguments) {
  TORCH_CHECK(!(wants_gradient(arguments) || ...), op, ": ", advice);
}

constexpr char kNotYet[] =
    "no gradient yet: call it under torch.no_grad(), or detach the arguments";
constexpr char kNever[] =
    "not differentiable: call it under torch.no_grad(), or detach the arguments";

}  // namespace masked_attn::autograd
