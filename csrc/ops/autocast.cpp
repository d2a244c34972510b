// Under autocast, attention and linear run in the dtype of the region. Masks keep their
// dtype, and caches are never cast: what enters a cache follows the cache.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "cached_attention.h"
#include "linear.h"
#include "masked_attention.h"
#include "packed_attention.h"

namespace masked_attn::autocast {
namespace {

template <at::DeviceType device>
at::Tensor cast(const at::Tensor& tensor) {
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), tensor, device);
}

template <at::DeviceType device>
c10::DispatchKey key_of() {
  return device == at::kCPU ? c10::DispatchKey::AutocastCPU : c10::DispatchKey::Autocast;
}

template <at::DeviceType device>
at::Tensor masked_attention_autocast(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value,
                                     const std::optional<at::Tensor>& key_mask,
                                     const std::optional<at::Tensor>& attn_mask, bool causal,
                                     std::optional<int64_t> window, std::optional<double> scale,
                                     double dropout_p) {
  c10::impl::ExcludeDispatchKeyGuard guard(key_of<device>());
  return masked_attention(cast<device>(query), cast<device>(key), cast<device>(value), key_mask,
                          attn_mask, causal, window, scale, dropout_p);
}

template <at::DeviceType device>
std::tuple<at::Tensor, at::Tensor> masked_attention_forward_autocast(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask, const std::optional<at::Tensor>& attn_mask,
    bool causal, std::optional<int64_t> window, std::optional<double> scale, double dropout_p) {
  c10::impl::ExcludeDispatchKeyGuard guard(key_of<device>());
  return masked_attention_forward(cast<device>(query), cast<device>(key), cast<device>(value),
                                  key_mask, attn_mask, causal, window, scale, dropout_p);
}

template <at::DeviceType device>
at::Tensor packed_attention_autocast(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value, const at::Tensor& cu_seqlens,
                                     c10::SymInt max_seqlen,
                                     const std::optional<at::Tensor>& cu_seqlens_k,
                                     std::optional<c10::SymInt> max_seqlen_k, bool causal,
                                     std::optional<int64_t> window, std::optional<double> scale) {
  c10::impl::ExcludeDispatchKeyGuard guard(key_of<device>());
  return packed_attention(cast<device>(query), cast<device>(key), cast<device>(value), cu_seqlens,
                          std::move(max_seqlen), cu_seqlens_k, std::move(max_seqlen_k), causal,
                          window, scale);
}

template <at::DeviceType device>
std::tuple<at::Tensor, at::Tensor> packed_attention_forward_autocast(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& cu_seqlens, c10::SymInt max_seqlen,
    const std::optional<at::Tensor>& cu_seqlens_k, std::optional<c10::SymInt> max_seqlen_k,
    bool causal, std::optional<int64_t> window, std::optional<double> scale) {
  c10::impl::ExcludeDispatchKeyGuard guard(key_of<device>());
  return packed_attention_forward(cast<device>(query), cast<device>(key), cast<device>(value),
                                  cu_seqlens, std::move(max_seqlen), cu_seqlens_k,
                                  std::move(max_seqlen_k), causal, window, scale);
}

template <at::DeviceType device, class Position>
at::Tensor cached_attention_autocast(const at::Tensor& query, const at::Tensor& new_key,
                                     const at::Tensor& new_value, at::Tensor& key_cache,
                                     at::Tensor& value_cache, Position position,
                                     const std::optional<at::Tensor>& key_mask,
                                     const std::optional<at::Tensor>& attn_mask,
                                     std::optional<int64_t> window, std::optional<double> scale) {
  c10::impl::ExcludeDispatchKeyGuard guard(key_of<device>());
  // A cache that can't be one is left to the checks.
  const bool floating = key_cache.is_floating_point();
  const at::ScalarType dtype = floating ? key_cache.scalar_type() : query.scalar_type();
  return cached_attention(query.to(dtype), new_key.to(dtype), new_value.to(dtype), key_cache,
                          value_cache, position, key_mask, attn_mask, window, scale);
}

template <at::DeviceType device>
at::Tensor linear_autocast(const at::Tensor& input, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, bool transposed,
                           std::optional<std::string_view> activation,
                           const std::optional<at::Tensor>& multiplier) {
  c10::impl::ExcludeDispatchKeyGuard guard(key_of<device>());
  const auto cast_optional = [](const std::optional<at::Tensor>& tensor) {
    return tensor.has_value() ? std::optional(cast<device>(*tensor)) : std::nullopt;
  };
  return linear(cast<device>(input), cast<device>(weight), cast_optional(bias),
                {transposed, activation, cast_optional(multiplier)});
}

template <at::DeviceType device>
void register_for(torch::Library& m) {
  m.impl("masked_attention", masked_attention_autocast<device>);
  m.impl("_masked_attention_forward", masked_attention_forward_autocast<device>);
  m.impl("packed_attention", packed_attention_autocast<device>);
  m.impl("_packed_attention_forward", packed_attention_forward_autocast<device>);
  m.impl("linear", linear_autocast<device>);
  m.impl("cached_attention", cached_attention_autocast<device, c10::SymInt>);
  m.impl("cached_attention.device", cached_attention_autocast<device, const at::Tensor&>);
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, AutocastCPU, m) { register_for<at::kCPU>(m); }
TORCH_LIBRARY_IMPL(masked_attn, AutocastCUDA, m) { register_for<at::kCUDA>(m); }

}  // namespace masked_attn::autocast
