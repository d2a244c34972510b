#include "../masked_softmax.h"

#include <torch/library.h>

#include "../../kernels/cpu/plan.h"
#include "../params.h"
#include "launch.h"

namespace masked_attn::cpu {
namespace {

at::Tensor masked_softmax_cpu(const at::Tensor& scores, const std::optional<at::Tensor>& key_mask,
                              const std::optional<at::Tensor>& attn_mask, bool causal,
                              std::optional<int64_t> window, double scale) {
  at::Tensor out = masked_softmax_meta(scores, key_mask, attn_mask, causal, window, scale);
  if (out.numel() == 0) return out;
  Call<SoftmaxParams> call = softmax_call(scores, key_mask, attn_mask, causal, window, scale, out);
  SoftmaxParams& params = call.params;
  params.threads = torch_threads(static_cast<double>(out.numel()));
  const Scratch scratch(softmax_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status("masked_softmax", kernels().masked_softmax(params));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) { m.impl("masked_softmax", masked_softmax_cpu); }

}  // namespace masked_attn::cpu
