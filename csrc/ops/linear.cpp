#include "linear.h"

#include "checks.h"

namespace masked_attn {
namespace {

constexpr const char* kOp = Linear::kName;

void activation_is_known(std::optional<std::string_view> activation) {
  if (!activation.has_value()) return;
  for (const char* known : {"gelu_tanh", "gelu", "silu", "relu"}) {
    if (*activation == known) return;
  }
  TORCH_CHECK(false, kOp, ": activation must be gelu_tanh, gelu, silu, relu or None, got ",
              *activation);
}

void activate_(at::Tensor& values, std::string_view activation) {
  if (activation == "relu") {
    at::relu_(values);
  } else if (activation == "silu") {
    at::silu_(values);
  } else {
    at::gelu_(values, activation == "gelu" ? "none" : "tanh");
  }
}

}  // namespace

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, const LinearOptions& options) {
  return Entry<Linear, at::Tensor>::call({input, weight, bias, options});
}

at::Tensor checked_output(const Linear& op) {
  const auto& [input, weight, bias, options] = op;
  const std::optional<at::Tensor>& multiplier = options.multiplier;
  const checks::Argument input_argument{kOp, "input", input};
  const checks::Argument weight_argument{kOp, "weight", weight};
  activation_is_known(options.activation);
  checks::is_supported_float(input_argument);
  checks::has_storage_dtype_for(weight_argument, input_argument);
  if (bias.has_value()) checks::has_dtype_of({kOp, "bias", *bias}, weight_argument);
  if (multiplier.has_value()) {
    checks::has_dtype_of({kOp, "multiplier", *multiplier}, input_argument);
  }
  checks::is_on_device_of(weight_argument, input_argument);
  if (bias.has_value()) checks::is_on_device_of({kOp, "bias", *bias}, input_argument);
  if (multiplier.has_value()) {
    checks::is_on_device_of({kOp, "multiplier", *multiplier}, input_argument);
  }
  TORCH_CHECK(input.dim() >= 1, kOp, ": input must have at least 1 dimension, got 0");
  checks::has_rank(weight_argument, 2);
  const c10::SymInt inputs = input.sym_size(-1);
  const c10::SymInt outputs = weight.sym_size(options.transposed ? 1 : 0);
  if (options.transposed) {
    checks::has_shape(weight_argument, "[inputs, outputs]", {inputs, outputs});
  } else {
    checks::has_shape(weight_argument, "[outputs, inputs]", {outputs, inputs});
  }
  if (bias.has_value()) checks::has_shape({kOp, "bias", *bias}, "[outputs]", {outputs});
  c10::SymDimVector sizes(input.sym_sizes().begin(), input.sym_sizes().end());
  sizes.back() = outputs;
  if (multiplier.has_value()) {
    const checks::Argument argument{kOp, "multiplier", *multiplier};
    checks::has_rank(argument, input.dim());
    checks::has_shape(argument, "[..., outputs]", sizes);
  }
  return at::empty_symint(sizes, input.options().requires_grad(false));
}

void torch_linear(const Linear& op, at::Tensor& out) {
  const auto& [input, weight, bias, options] = op;
  const at::ScalarType dtype = input.scalar_type();
  const at::Tensor matrix = (options.transposed ? weight : weight.t()).to(dtype);
  const int64_t outputs = out.size(-1);
  const int64_t rows = out.numel() / outputs;
  const at::Tensor flat = input.reshape({rows, input.size(-1)});
  at::Tensor products = out.view({rows, outputs});
  if (bias.has_value()) {
    at::addmm_out(products, bias->to(dtype), flat, matrix);
  } else {
    at::mm_out(products, flat, matrix);
  }
  if (options.activation.has_value()) activate_(products, *options.activation);
  if (options.multiplier.has_value()) out.mul_(*options.multiplier);
}

}  // namespace masked_attn
