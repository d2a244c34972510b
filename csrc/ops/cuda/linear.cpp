#include "../linear.h"

#include <torch/library.h>

#include "launch.h"

namespace masked_attn::cuda {
namespace {

at::Tensor linear_cuda(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, bool transposed,
                       std::optional<std::string_view> activation,
                       const std::optional<at::Tensor>& multiplier) {
  at::Tensor out = linear_meta(input, weight, bias, transposed, activation, multiplier);
  if (out.numel() == 0) return out;
  const c10::cuda::CUDAGuard guard(input.device());
  torch_linear(input, weight, bias, {transposed, activation, multiplier}, out);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) { m.impl("linear", linear_cuda); }

}  // namespace masked_attn::cuda
