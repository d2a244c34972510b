// expand_mask: [batch, keys] 0/1 -> [batch, 1, queries, keys], 0 where visible, `fill` elsewhere.
#pragma once

#include "api.h"
#include "dispatch.h"

namespace masked_attn {

struct ExpandOptions {
  std::optional<c10::SymInt> query_length = std::nullopt;  // none: as many as keys
  bool causal = false;
  std::optional<int64_t> window = std::nullopt;
  std::optional<double> fill = std::nullopt;  // of masked positions, none: -inf
};

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor expand_mask(const at::Tensor& mask, at::ScalarType dtype,
                                       const ExpandOptions& options = {});

struct ExpandMask {
  static constexpr char kName[] = "expand_mask";
  const at::Tensor& mask;
  at::ScalarType dtype;
  const ExpandOptions& options;

  auto own() const { return std::tie(mask, dtype); }
  using O = ExpandOptions;
  using Options = Members<&O::query_length, &O::causal, &O::window, &O::fill>;
};

// Checks everything and returns an empty result of the right shape.
at::Tensor checked_output(const ExpandMask& op);

}  // namespace masked_attn
