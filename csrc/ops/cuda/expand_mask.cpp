#include "../expand_mask.h"

#include <torch/library.h>

#include "../params.h"
#include "launch.h"

namespace masked_attn::cuda {
namespace {

at::Tensor expand_mask_cuda(const at::Tensor& mask, at::ScalarType dtype,
                            std::optional<c10::SymInt> query_length, bool causal,
                            std::optional<int64_t> window, std::optional<double> fill) {
  at::Tensor out = expand_mask_meta(mask, dtype, std::move(query_length), causal, window, fill);
  if (out.numel() == 0) return out;
  const c10::cuda::CUDAGuard guard(mask.device());
  const Call<ExpandParams> call = expand_call(mask, causal, window, fill, out);
  check_status("expand_mask", expand_mask(call.params, current_stream(mask)));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) { m.impl("expand_mask", expand_mask_cuda); }

}  // namespace masked_attn::cuda
