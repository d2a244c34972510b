// cached_attention has no gradient. Its caches are written, so their version counters move.
#include "../cached_attention.h"

#include <torch/csrc/autograd/variable.h>
#include <torch/library.h>

#include "no_gradient.h"

namespace masked_attn::autograd {
namespace {

void bump_version(const at::Tensor& cache) {
  if (!cache.is_inference()) torch::autograd::impl::bump_version(cache);
}

template <class Position>
at::Tensor cached_attention_autograd(const at::Tensor& query, const at::Tensor& new_key,
                                     const at::Tensor& new_value, at::Tensor& key_cache,
                                     at::Tensor& value_cache, Position position,
                                     const std::optional<at::Tensor>& key_mask,
                                     const std::optional<at::Tensor>& attn_mask,
                                     std::optional<int64_t> window, std::optional<double> scale) {
  refuse_gradient("cached_attention", kNever, query, new_key, new_value, key_cache, value_cache,
                  attn_mask);
  at::AutoDispatchBelowAutograd guard;
  return cached_attention(query, new_key, new_value, key_cache, value_cache, position, key_mask,
                          attn_mask, window, scale);
}

template <class Position>
at::Tensor cached_attention_in_place(const at::Tensor& query, const at::Tensor& new_key,
                                     const at::Tensor& new_value, at::Tensor& key_cache,
                                     at::Tensor& value_cache, Position position,
                                     const std::optional<at::Tensor>& key_mask,
                                     const std::optional<at::Tensor>& attn_mask,
                                     std::optional<int64_t> window, std::optional<double> scale) {
  at::Tensor out;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    out = cached_attention(query, new_key, new_value, key_cache, value_cache, position, key_mask,
                           attn_mask, window, scale);
  }
  bump_version(key_cache);
  bump_version(value_cache);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) {
  m.impl("cached_attention", cached_attention_autograd<c10::SymInt>);
  m.impl("cached_attention.device", cached_attention_autograd<const at::Tensor&>);
}

TORCH_LIBRARY_IMPL(masked_attn, ADInplaceOrView, m) {
  m.impl("cached_attention", cached_attention_in_place<c10::SymInt>);
  m.impl("cached_attention.device", cached_attention_in_place<const at::Tensor&>);
}

}  // namespace masked_attn::autograd
