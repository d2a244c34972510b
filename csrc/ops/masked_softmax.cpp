#include "masked_softmax.h"

#include "checks.h"

namespace masked_attn {

at::Tensor masked_softmax(const at::Tensor& scores, const SoftmaxOptions& options) {
  return Entry<MaskedSoftmax, at::Tensor>::call({scores, options});
}

at::Tensor checked_output(const MaskedSoftmax& op) {
  const at::Tensor& scores = op.scores;
  const SoftmaxOptions& options = op.options;
  const checks::Argument argument{op.kName, "scores", scores};
  checks::is_supported_float(argument);
  checks::has_rank(argument, 4);
  checks::masks_fit(
      argument, options.key_mask, options.attn_mask, options.window,
      {scores.sym_size(0), scores.sym_size(1), scores.sym_size(2), scores.sym_size(3)});
  checks::scale_is_finite(argument, options.scale);
  return at::empty_symint(scores.sym_sizes(), scores.options().requires_grad(false));
}

}  // namespace masked_attn
