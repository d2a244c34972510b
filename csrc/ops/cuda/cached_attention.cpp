#include "../cached_attention.h"

#include <torch/library.h>

#include "../cache_memory.h"
#include "attend.h"
#include "launch.h"

namespace masked_attn::cuda {
namespace {

constexpr char kOp[] = "cached_attention";

void append(const at::Tensor& source, at::Tensor& cache, int64_t position,
            const at::Tensor& device_position) {
  if (source.numel() == 0) return;
  const c10::cuda::CUDAGuard guard(source.device());
  Call<AppendParams> call = append_call(source, cache, position);
  if (device_position.defined()) {
    call.params.device_position = device_position.const_data_ptr<int64_t>();
  }
  check_status(kOp, append_cache(call.params, current_stream(source)));
}

at::Tensor cached_attention_cuda(const at::Tensor& query, const at::Tensor& new_key,
                                 const at::Tensor& new_value, at::Tensor& key_cache,
                                 at::Tensor& value_cache, c10::SymInt position,
                                 const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask,
                                 std::optional<int64_t> window, std::optional<double> scale) {
  at::Tensor out = cached_attention_meta(query, new_key, new_value, key_cache, value_cache,
                                         position, key_mask, attn_mask, window, scale);
  check_head_sizes(kOp, query, new_value);
  check_cache_memory(query, new_key, new_value, key_cache, value_cache, key_mask, attn_mask, {});
  const int64_t first = position.guard_int(__FILE__, __LINE__);
  append(new_key, key_cache, first, {});
  append(new_value, value_cache, first, {});
  const int64_t keys = first + query.size(2);
  at::Tensor no_logsumexp;
  attend(kOp, query, key_cache.narrow(2, 0, keys), value_cache.narrow(2, 0, keys),
         {key_mask, attn_mask, true, window, scale}, {}, out, no_logsumexp);
  return out;
}

at::Tensor cached_attention_device_cuda(const at::Tensor& query, const at::Tensor& new_key,
                                        const at::Tensor& new_value, at::Tensor& key_cache,
                                        at::Tensor& value_cache, const at::Tensor& position,
                                        const std::optional<at::Tensor>& key_mask,
                                        const std::optional<at::Tensor>& attn_mask,
                                        std::optional<int64_t> window,
                                        std::optional<double> scale) {
  at::Tensor out = cached_attention_device_meta(query, new_key, new_value, key_cache, value_cache,
                                                position, key_mask, attn_mask, window, scale);
  check_head_sizes(kOp, query, new_value);
  check_cache_memory(query, new_key, new_value, key_cache, value_cache, key_mask, attn_mask,
                     position);
  append(new_key, key_cache, 0, position);
  append(new_value, value_cache, 0, position);
  at::Tensor no_logsumexp;
  attend(kOp, query, key_cache, value_cache, {key_mask, attn_mask, true, window, scale}, position,
         out, no_logsumexp);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) {
  m.impl("cached_attention", cached_attention_cuda);
  m.impl("cached_attention.device", cached_attention_device_cuda);
}

}  // namespace masked_attn::cuda
