#include "../skinny_linear.h"

#include <torch/library.h>

#include "launch.h"

namespace masked_attn::cuda {
namespace {

at::Tensor skinny_linear_cuda(const at::Tensor& input, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, bool transposed) {
  at::Tensor out = skinny_linear_meta(input, weight, bias, transposed);
  if (out.numel() == 0) return out;
  const c10::cuda::CUDAGuard guard(input.device());
  torch_linear(input, weight, bias, transposed, out);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) { m.impl("skinny_linear", skinny_linear_cuda); }

}  // namespace masked_attn::cuda
