// linear: activation(input @ weight^T + bias) * multiplier for any number of rows. On a CPU the
// bits of a row depend on the row and the weight alone: not on the other rows, their number or the
// threads. Other devices get torch's own products.
#pragma once

#include <string_view>

#include "api.h"
#include "dispatch.h"

namespace masked_attn {

struct LinearOptions {
  bool transposed = false;  // `weight` is [inputs, outputs] instead of [outputs, inputs]
  // "gelu_tanh", "gelu", "silu" or "relu".
  std::optional<std::string_view> activation = std::nullopt;
  std::optional<at::Tensor> multiplier = std::nullopt;  // [..., outputs]
};

// Through the dispatcher, for C++ callers.
MASKED_ATTN_API at::Tensor linear(const at::Tensor& input, const at::Tensor& weight,
                                  const std::optional<at::Tensor>& bias = std::nullopt,
                                  const LinearOptions& options = {});

struct Linear {
  static constexpr char kName[] = "linear";
  const at::Tensor& input;
  const at::Tensor& weight;
  const std::optional<at::Tensor>& bias;
  const LinearOptions& options;

  auto own() const { return std::tie(input, weight, bias); }
  using O = LinearOptions;
  using Options = Members<&O::transposed, &O::activation, &O::multiplier>;
};

// Checks everything and returns an empty result of the right shape.
at::Tensor checked_output(const Linear& op);

// Fills `out`, which is not empty, with torch's own product and functions.
void torch_linear(const Linear& op, at::Tensor& out);

}  // namespace masked_attn
