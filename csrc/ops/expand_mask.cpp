#include "expand_mask.h"

#include <ATen/Dispatch_v2.h>

#include <cmath>
#include <limits>

#include "checks.h"

namespace masked_attn {
namespace {

constexpr const char* kOp = ExpandMask::kName;

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

at::Tensor expand_mask(const at::Tensor& mask, at::ScalarType dtype, const ExpandOptions& options) {
  return Entry<ExpandMask, at::Tensor>::call({mask, dtype, options});
}

at::Tensor checked_output(const ExpandMask& op) {
  const at::Tensor& mask = op.mask;
  TORCH_CHECK(!mask.is_complex(), kOp, ": mask must be bool, integer or float, got ",
              checks::dtype_name(mask.scalar_type()));
  TORCH_CHECK(checks::is_supported(op.dtype), kOp,
              ": dtype must be float32, float64, float16 or bfloat16, got ",
              checks::dtype_name(op.dtype),
              "; a boolean mask needs no expansion: pass it as key_mask");
  TORCH_CHECK(mask.dim() == 2, kOp, ": mask must be [batch, keys], got ", mask.sym_sizes());
  const c10::SymInt queries = op.options.query_length.value_or(mask.sym_size(1));
  TORCH_CHECK(queries.sym_ge(0).guard_bool(__FILE__, __LINE__), kOp,
              ": query_length must not be negative, got ", queries);
  checks::window_is_positive(kOp, op.options.window);
  check_fill(op.dtype, op.options.fill);
  return at::empty_symint({mask.sym_size(0), 1, queries, mask.sym_size(1)},
                          mask.options().dtype(op.dtype).requires_grad(false));
}

}  // namespace masked_attn
