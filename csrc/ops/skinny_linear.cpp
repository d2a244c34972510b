#include "skinny_linear.h"

#include <torch/library.h>

#include "checks.h"

namespace masked_attn {

at::Tensor skinny_linear(const at::Tensor& input, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, bool transposed) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::skinny_linear", "")
                             .typed<decltype(skinny_linear_meta)>();
  return op.call(input, weight, bias, transposed);
}

at::Tensor skinny_linear_meta(const at::Tensor& input, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, bool transposed) {
  constexpr char kOp[] = "skinny_linear";
  const checks::Argument input_argument{kOp, "input", input};
  const checks::Argument weight_argument{kOp, "weight", weight};
  checks::is_supported_float(input_argument);
  checks::has_storage_dtype_for(weight_argument, input_argument);
  if (bias.has_value()) checks::has_dtype_of({kOp, "bias", *bias}, weight_argument);
  checks::is_on_device_of(weight_argument, input_argument);
  if (bias.has_value()) checks::is_on_device_of({kOp, "bias", *bias}, input_argument);
  TORCH_CHECK(input.dim() >= 1, kOp, ": input must have at least 1 dimension, got 0");
  checks::has_rank(weight_argument, 2);
  const c10::SymInt inputs = input.sym_size(-1);
  const c10::SymInt outputs = weight.sym_size(transposed ? 1 : 0);
  if (transposed) {
    checks::has_shape(weight_argument, "[inputs, outputs]", {inputs, outputs});
  } else {
    checks::has_shape(weight_argument, "[outputs, inputs]", {outputs, inputs});
  }
  if (bias.has_value()) checks::has_shape({kOp, "bias", *bias}, "[outputs]", {outputs});
  c10::SymDimVector sizes(input.sym_sizes().begin(), input.sym_sizes().end());
  sizes.back() = outputs;
  return at::empty_symint(sizes, input.options().requires_grad(false));
}

void torch_linear(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, bool transposed, at::Tensor& out) {
  const at::ScalarType dtype = input.scalar_type();
  const at::Tensor matrix = (transposed ? weight : weight.t()).to(dtype);
  const int64_t outputs = out.size(-1);
  const int64_t rows = out.numel() / outputs;
  const at::Tensor flat = input.reshape({rows, input.size(-1)});
  at::Tensor products = out.view({rows, outputs});
  if (bias.has_value()) {
    at::addmm_out(products, bias->to(dtype), flat, matrix);
  } else {
    at::mm_out(products, flat, matrix);
  }
}

TORCH_LIBRARY_IMPL(masked_attn, Meta, m) { m.impl("skinny_linear", skinny_linear_meta); }

}  // namespace masked_attn
