#include "../masked_softmax.h"

#include <torch/library.h>

#include "../params.h"
#include "launch.h"

namespace masked_attn::cuda {
namespace {

at::Tensor masked_softmax_cuda(const at::Tensor& scores, const std::optional<at::Tensor>& key_mask,
                               const std::optional<at::Tensor>& attn_mask, bool causal,
                               std::optional<int64_t> window, double scale) {
  at::Tensor out = masked_softmax_meta(scores, key_mask, attn_mask, causal, window, scale);
  if (out.numel() == 0) return out;
  const c10::cuda::CUDAGuard guard(scores.device());
  const Call<SoftmaxParams> call =
      softmax_call(scores, key_mask, attn_mask, causal, window, scale, out);
  check_status("masked_softmax", masked_softmax(call.params, current_stream(scores)));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) { m.impl("masked_softmax", masked_softmax_cuda); }

}  // namespace masked_attn::cuda
