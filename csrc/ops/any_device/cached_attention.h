#pragma once

#include "../cache_memory.h"
#include "../cached_attention.h"
#include "attend.h"

namespace masked_attn {

inline CacheSlots slots_on_host(int64_t position, int64_t queries) {
  return {position, position + queries, nullptr};
}

template <class Device>
CacheSlots slots_of(const CachedAttention<c10::SymInt>& op) {
  return slots_on_host(op.position.guard_int(__FILE__, __LINE__), op.query.size(2));
}

template <class Device>
CacheSlots slots_of(const CachedAttention<const at::Tensor&>& op) {
  return Device::slots(op.position, op.query.size(2), op.key_cache.size(2));
}

inline at::Tensor position_tensor(const c10::SymInt&) { return {}; }
inline const at::Tensor& position_tensor(const at::Tensor& position) { return position; }

// Of a mask that is as wide as the capacity: slots behind the last key are never seen.
inline void keep_first_keys(std::optional<at::Tensor>& mask, int64_t keys) {
  if (mask.has_value() && mask->dim() > 0 && mask->size(-1) > keys) {
    mask = mask->narrow(-1, 0, keys);
  }
}

template <class Device>
void append(const char* op, const at::Tensor& source, const at::Tensor& cache,
            const CacheSlots& slots) {
  if (source.numel() == 0) return;
  Call<AppendParams> call = append_call(source, cache, slots);
  Device::run(op, call.params, source);
}

template <class Device, class Result, class Position>
Result run(const CachedAttention<Position>& op) {
  at::Tensor out = checked_output(op);
  Device::check_head_sizes(op.kName, op.query.size(3), op.new_value.size(3));
  check_cache_memory(op.query, op.new_key, op.new_value, op.key_cache, op.value_cache, op.options,
                     position_tensor(op.position));
  const CacheSlots slots = slots_of<Device>(op);
  append<Device>(op.kName, op.new_key, op.key_cache, slots);
  append<Device>(op.kName, op.new_value, op.value_cache, slots);
  AttentionOptions options = op.options;
  options.causal = true;
  keep_first_keys(options.key_mask, slots.keys);
  keep_first_keys(options.attn_mask, slots.keys);
  attend<Device>({op.kName, op.query, op.key_cache.narrow(2, 0, slots.keys),
                  op.value_cache.narrow(2, 0, slots.keys), options, nullptr, slots.device_position},
                 out, {});
  return out;
}

}  // namespace masked_attn
