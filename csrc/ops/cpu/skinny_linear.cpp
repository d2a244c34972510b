#include "../skinny_linear.h"

#include <torch/library.h>

#include "../../kernels/cpu/plan.h"
#include "../params.h"
#include "launch.h"

namespace masked_attn::cpu {
namespace {

at::Tensor skinny_linear_cpu(const at::Tensor& input, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias, bool transposed) {
  at::Tensor out = skinny_linear_meta(input, weight, bias, transposed);
  if (out.numel() == 0) return out;
  const int64_t rows = out.numel() / out.size(-1);
  if (rows > kSkinnyRows || input.numel() == 0) {
    torch_linear(input, weight, bias, transposed, out);
    return out;
  }
  Call<SkinnyLinearParams> call = skinny_linear_call(input, weight, bias, transposed, out);
  SkinnyLinearParams& params = call.params;
  params.threads = torch_threads(static_cast<double>(rows) * static_cast<double>(weight.numel()));
  const Scratch scratch(skinny_linear_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status("skinny_linear", kernels().skinny_linear(params));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) { m.impl("skinny_linear", skinny_linear_cpu); }

}  // namespace masked_attn::cpu
