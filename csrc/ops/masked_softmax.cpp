#include "masked_softmax.h"

#include <torch/library.h>

#include "checks.h"

namespace masked_attn {

at::Tensor masked_softmax(const at::Tensor& scores, const std::optional<at::Tensor>& key_mask,
                          const std::optional<at::Tensor>& attn_mask, bool causal,
                          std::optional<int64_t> window, double scale) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::masked_softmax", "")
                             .typed<decltype(masked_softmax_meta)>();
  return op.call(scores, key_mask, attn_mask, causal, window, scale);
}

at::Tensor masked_softmax_meta(const at::Tensor& scores, const std::optional<at::Tensor>& key_mask,
                               const std::optional<at::Tensor>& attn_mask, bool /*causal*/,
                               std::optional<int64_t> window, double scale) {
  const checks::Argument argument{"masked_softmax", "scores", scores};
  checks::is_supported_float(argument);
  checks::has_rank(argument, 4);
  checks::masks_fit(
      argument, key_mask, attn_mask, window,
      {scores.sym_size(0), scores.sym_size(1), scores.sym_size(2), scores.sym_size(3)});
  checks::scale_is_finite(argument, scale);
  return at::empty_symint(scores.sym_sizes(), scores.options().requires_grad(false));
}

TORCH_LIBRARY_IMPL(masked_attn, Meta, m) { m.impl("masked_softmax", masked_softmax_meta); }

}  // namespace masked_attn
