#include "../linear.h"

#include <torch/library.h>

#include "../../kernels/cpu/plan.h"
#include "../params.h"
#include "launch.h"

namespace masked_attn::cpu {
namespace {

at::Tensor linear_cpu(const at::Tensor& input, const at::Tensor& weight,
                      const std::optional<at::Tensor>& bias, bool transposed,
                      std::optional<std::string_view> activation,
                      const std::optional<at::Tensor>& multiplier) {
  at::Tensor out = linear_meta(input, weight, bias, transposed, activation, multiplier);
  if (out.numel() == 0) return out;
  const LinearOptions options{transposed, activation, multiplier};
  Call<LinearParams> call = linear_call(input, weight, bias, options, out);
  LinearParams& params = call.params;
  params.threads =
      torch_threads(static_cast<double>(params.rows) * static_cast<double>(weight.numel()));
  const Scratch scratch(linear_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status("linear", kernels().linear(params));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) { m.impl("linear", linear_cpu); }

}  // namespace masked_attn::cpu
