// skinny_linear: input @ weight^T + bias for few rows of input, as in a token step. Up to 32 rows
// on a CPU read the weight once, where it lies; a row has the same bits in any such batch. More
// rows, and other devices, get torch's own product.
#pragma once

#include <ATen/ATen.h>

#include "api.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers. `weight` is [outputs, inputs], or [inputs, outputs] if
// `transposed`.
MASKED_ATTN_API at::Tensor skinny_linear(const at::Tensor& input, const at::Tensor& weight,
                                         const std::optional<at::Tensor>& bias = std::nullopt,
                                         bool transposed = false);

// Checks everything and returns an empty result of the right shape.
at::Tensor skinny_linear_meta(const at::Tensor& input, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, bool transposed);

// Fills `out`, which is not empty, with torch's own product.
void torch_linear(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, bool transposed, at::Tensor& out);

}  // namespace masked_attn
