// masked_softmax: softmax(scale * scores + mask) over the visible keys, [batch, heads, queries,
// keys].
#pragma once

#include "api.h"
#include "dispatch.h"

namespace masked_attn {

struct SoftmaxOptions {
  std::optional<at::Tensor> key_mask = std::nullopt;  // as for attention
  std::optional<at::Tensor> attn_mask = std::nullopt;
  bool causal = false;
  std::optional<int64_t> window = std::nullopt;
  double scale = 1.0;
};

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor masked_softmax(const at::Tensor& scores,
                                          const SoftmaxOptions& options = {});

struct MaskedSoftmax {
  static constexpr char kName[] = "masked_softmax";
  const at::Tensor& scores;
  const SoftmaxOptions& options;

  auto own() const { return std::tie(scores); }
  using O = SoftmaxOptions;
  using Options = Members<&O::key_mask, &O::attn_mask, &O::causal, &O::window, &O::scale>;
};

// Checks everything and returns an empty result of the right shape.
at::Tensor checked_output(const MaskedSoftmax& op);

}  // namespace masked_attn
