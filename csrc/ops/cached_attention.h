// cached_attention: writes new keys and values into the caches at `position`, then attends causally
// over all that is there. The first overload knows the position on the host; the second reads it on
// the device, where it is clamped to [0, capacity - queries].
#pragma once

#include "api.h"
#include "attention_options.h"
#include "dispatch.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers. It is causal whatever `options.causal` says.
MASKED_ATTN_API at::Tensor cached_attention(const at::Tensor& query, const at::Tensor& new_key,
                                            const at::Tensor& new_value, at::Tensor& key_cache,
                                            at::Tensor& value_cache, c10::SymInt position,
                                            const AttentionOptions& options = {});

MASKED_ATTN_API at::Tensor cached_attention(const at::Tensor& query, const at::Tensor& new_key,
                                            const at::Tensor& new_value, at::Tensor& key_cache,
                                            at::Tensor& value_cache, const at::Tensor& position,
                                            const AttentionOptions& options = {});

// `Position` is c10::SymInt or const at::Tensor&.
template <class Position>
struct CachedAttention {
  static constexpr char kName[] = "cached_attention";
  const at::Tensor& query;
  const at::Tensor& new_key;
  const at::Tensor& new_value;
  at::Tensor& key_cache;
  at::Tensor& value_cache;
  Position position;
  const AttentionOptions& options;

  auto own() const { return std::tie(query, new_key, new_value, key_cache, value_cache, position); }
  using O = AttentionOptions;
  using Options = Members<&O::key_mask, &O::attn_mask, &O::window, &O::scale, &O::softcap,
                          &O::sinks, &O::alibi_slopes>;
};

template <>
inline constexpr const char* kOverload<CachedAttention<const at::Tensor&>> = "device";

// Check everything but memory, and return an empty result of the right shape.
at::Tensor checked_output(const CachedAttention<c10::SymInt>& op);
at::Tensor checked_output(const CachedAttention<const at::Tensor&>& op);

}  // namespace masked_attn
