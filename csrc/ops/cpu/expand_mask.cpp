#include "../expand_mask.h"

#include <torch/library.h>

#include "../params.h"
#include "launch.h"

namespace masked_attn::cpu {
namespace {

at::Tensor expand_mask_cpu(const at::Tensor& mask, at::ScalarType dtype,
                           std::optional<c10::SymInt> query_length, bool causal,
                           std::optional<int64_t> window, std::optional<double> fill) {
  at::Tensor out = expand_mask_meta(mask, dtype, std::move(query_length), causal, window, fill);
  if (out.numel() == 0) return out;
  Call<ExpandParams> call = expand_call(mask, causal, window, fill, out);
  ExpandParams& params = call.params;
  params.threads = torch_threads(static_cast<double>(out.numel()));
  check_status("expand_mask", kernels().expand_mask(params));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) { m.impl("expand_mask", expand_mask_cpu); }

}  // namespace masked_attn::cpu
