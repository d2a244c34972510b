#include "../cached_attention.h"

#include <torch/library.h>

#include <algorithm>

#include "../cache_memory.h"
#include "attend.h"
#include "launch.h"

namespace masked_attn::cpu {
namespace {

constexpr char kOp[] = "cached_attention";

void append(const at::Tensor& source, at::Tensor& cache, int64_t position) {
  if (source.numel() == 0) return;
  Call<AppendParams> call = append_call(source, cache, position);
  call.params.threads = torch_threads(static_cast<double>(source.numel()));
  check_status(kOp, kernels().append_cache(call.params));
}

void append_and_attend(const at::Tensor& query, const at::Tensor& new_key,
                       const at::Tensor& new_value, at::Tensor& key_cache, at::Tensor& value_cache,
                       int64_t position, const AttendOptions& options, at::Tensor& out) {
  append(new_key, key_cache, position);
  append(new_value, value_cache, position);
  const int64_t keys = position + query.size(2);
  at::Tensor no_logsumexp;
  attend(kOp, query, key_cache.narrow(2, 0, keys), value_cache.narrow(2, 0, keys), options, out,
         no_logsumexp);
}

at::Tensor cached_attention_cpu(const at::Tensor& query, const at::Tensor& new_key,
                                const at::Tensor& new_value, at::Tensor& key_cache,
                                at::Tensor& value_cache, c10::SymInt position,
                                const std::optional<at::Tensor>& key_mask,
                                const std::optional<at::Tensor>& attn_mask,
                                std::optional<int64_t> window, std::optional<double> scale) {
  at::Tensor out = cached_attention_meta(query, new_key, new_value, key_cache, value_cache,
                                         position, key_mask, attn_mask, window, scale);
  check_cache_memory(query, new_key, new_value, key_cache, value_cache, key_mask, attn_mask, {});
  append_and_attend(query, new_key, new_value, key_cache, value_cache,
                    position.guard_int(__FILE__, __LINE__),
                    {key_mask, attn_mask, true, window, scale}, out);
  return out;
}

// Masks of the `device` overload are as wide as the capacity; slots behind the last are never seen.
std::optional<at::Tensor> first_keys(const std::optional<at::Tensor>& mask, int64_t capacity,
                                     int64_t keys) {
  if (!mask.has_value() || mask->dim() == 0 || mask->size(-1) != capacity) return mask;
  return mask->narrow(-1, 0, keys);
}

at::Tensor cached_attention_device_cpu(const at::Tensor& query, const at::Tensor& new_key,
                                       const at::Tensor& new_value, at::Tensor& key_cache,
                                       at::Tensor& value_cache, const at::Tensor& position,
                                       const std::optional<at::Tensor>& key_mask,
                                       const std::optional<at::Tensor>& attn_mask,
                                       std::optional<int64_t> window, std::optional<double> scale) {
  at::Tensor out = cached_attention_device_meta(query, new_key, new_value, key_cache, value_cache,
                                                position, key_mask, attn_mask, window, scale);
  check_cache_memory(query, new_key, new_value, key_cache, value_cache, key_mask, attn_mask,
                     position);
  const int64_t capacity = key_cache.size(2);
  const int64_t queries = query.size(2);
  const int64_t wanted = *position.const_data_ptr<int64_t>();
  const int64_t clamped = std::clamp<int64_t>(wanted, 0, capacity - queries);
  const auto seen_keys = first_keys(key_mask, capacity, clamped + queries);
  const auto seen_pairs = first_keys(attn_mask, capacity, clamped + queries);
  append_and_attend(query, new_key, new_value, key_cache, value_cache, clamped,
                    {seen_keys, seen_pairs, true, window, scale}, out);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) {
  m.impl("cached_attention", cached_attention_cpu);
  m.impl("cached_attention.device", cached_attention_device_cpu);
}

}  // namespace masked_attn::cpu
