// Under autocast, attention and linear run in the dtype of the region. Masks, sinks and slopes keep
// their dtype, and caches are never cast: what enters a cache follows the cache.
#include <ATen/autocast_mode.h>

#include "operators.h"

namespace masked_attn::autocast {
namespace {

template <at::DeviceType device>
constexpr c10::DispatchKey kKey =
    device == at::kCPU ? c10::DispatchKey::AutocastCPU : c10::DispatchKey::Autocast;

template <at::DeviceType device>
at::Tensor cast(const at::Tensor& tensor) {
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), tensor, device);
}

template <at::DeviceType device>
std::optional<at::Tensor> cast(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() ? std::optional(cast<device>(*tensor)) : std::nullopt;
}

// An operator without a rule here runs in the dtypes that it is given.
template <at::DeviceType device, class Result>
Result run(const MaskedAttention& op) {
  return Entry<MaskedAttention, Result>::call(
      {cast<device>(op.query), cast<device>(op.key), cast<device>(op.value), op.options});
}

template <at::DeviceType device, class Result>
Result run(const PackedAttention& op) {
  return Entry<PackedAttention, Result>::call({cast<device>(op.query), cast<device>(op.key),
                                               cast<device>(op.value), op.cu_seqlens, op.max_seqlen,
                                               op.cu_seqlens_k, op.max_seqlen_k, op.options});
}

template <at::DeviceType device, class Result, class Position>
Result run(const CachedAttention<Position>& op) {
  // A cache that can't be one is left to the checks.
  const bool floating = op.key_cache.is_floating_point();
  const at::ScalarType dtype = floating ? op.key_cache.scalar_type() : op.query.scalar_type();
  return Entry<CachedAttention<Position>, Result>::call({op.query.to(dtype), op.new_key.to(dtype),
                                                         op.new_value.to(dtype), op.key_cache,
                                                         op.value_cache, op.position, op.options});
}

template <at::DeviceType device, class Result>
Result run(const Linear& op) {
  const LinearOptions options{op.options.transposed, op.options.activation,
                              cast<device>(op.options.multiplier)};
  return Entry<Linear, Result>::call(
      {cast<device>(op.input), cast<device>(op.weight), cast<device>(op.bias), options});
}

template <at::DeviceType device, class Result, class Op>
Result run_once(const Op& op) {
  const c10::impl::ExcludeDispatchKeyGuard guard(kKey<device>);
  return run<device, Result>(op);
}

template <at::DeviceType device>
void register_for(torch::Library& m) {
  for_each_operator([&]<class Op, class Result>(Entry<Op, Result>) {
    if constexpr (requires(const Op& op) { run<device, Result>(op); }) {
      m.impl(Entry<Op, Result>::full_name().c_str(),
             Entry<Op, Result>::template flat<&run_once<device, Result, Op>>);
    }
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, AutocastCPU, m) { register_for<at::kCPU>(m); }
TORCH_LIBRARY_IMPL(masked_attn, AutocastCUDA, m) { register_for<at::kCUDA>(m); }

}  // namespace masked_attn::autocast
