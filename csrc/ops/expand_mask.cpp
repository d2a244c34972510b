#include "expand_mask.h"

#include <ATen/Dispatch_v2.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "checks.h"

namespace masked_attn {
namespace {

constexpr char kOp[] = "expand_mask";

double lowest(at::ScalarType dtype) {
  double value = 0;
  AT_DISPATCH_V2(dtype, kOp, AT_WRAP([&] { value = std::numeric_limits<scalar_t>::lowest(); }),
                 AT_EXPAND(AT_FLOATING_TYPES), at::kHalf, at::kBFloat16);
  return value;
}

void check_fill(at::ScalarType dtype, std::optional<double> fill) {
  if (!fill.has_value() || std::isinf(*fill)) return;
  TORCH_CHECK(!std::isnan(*fill), kOp, ": fill must not be NaN");
  TORCH_CHECK(std::abs(*fill) <= -lowest(dtype), kOp, ": fill = ", *fill, " overflows ",
              checks::dtype_name(dtype), "; use -inf or finfo(dtype).min = ", lowest(dtype));
}

}  // namespace

at::Tensor expand_mask(const at::Tensor& mask, at::ScalarType dtype,
                       std::optional<c10::SymInt> query_length, bool causal,
                       std::optional<int64_t> window, std::optional<double> fill) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::expand_mask", "")
                             .typed<decltype(expand_mask_meta)>();
  return op.call(mask, dtype, std::move(query_length), causal, window, fill);
}

at::Tensor expand_mask_meta(const at::Tensor& mask, at::ScalarType dtype,
                            std::optional<c10::SymInt> query_length, bool /*causal*/,
                            std::optional<int64_t> window, std::optional<double> fill) {
  TORCH_CHECK(!mask.is_complex(), kOp, ": mask must be bool, integer or float, got ",
              checks::dtype_name(mask.scalar_type()));
  TORCH_CHECK(checks::is_supported(dtype), kOp,
              ": dtype must be float32, float64, float16 or bfloat16, got ",
              checks::dtype_name(dtype),
              "; a boolean mask needs no expansion: pass it as key_mask");
  TORCH_CHECK(mask.dim() == 2, kOp, ": mask must be [batch, keys], got ", mask.sym_sizes());
  const c10::SymInt queries = query_length.value_or(mask.sym_size(1));
  TORCH_CHECK(queries.sym_ge(0).guard_bool(__FILE__, __LINE__), kOp,
              ": query_length must not be negative, got ", queries);
  checks::window_is_positive(kOp, window);
  check_fill(dtype, fill);
  return at::empty_symint({mask.sym_size(0), 1, queries, mask.sym_size(1)},
                          mask.options().dtype(dtype).requires_grad(false));
}

TORCH_LIBRARY_IMPL(masked_attn, Meta, m) { m.impl("expand_mask", expand_mask_meta); }

}  // namespace masked_attn
