#include "checks.h"

#include <cmath>

namespace masked_attn::checks {
namespace {

void is_bool_key_mask(const Argument& mask) {
  TORCH_CHECK(mask.tensor.scalar_type() == at::kBool, mask.op, ": ", mask.name,
              " must be bool (True = may be seen), got ", dtype_name(mask.tensor.scalar_type()),
              "; convert it with .bool(), or expand a 0/1 mask with expand_mask");
}

void is_bool_or_float_mask(const Argument& mask) {
  const at::ScalarType dtype = mask.tensor.scalar_type();
  TORCH_CHECK(
      dtype == at::kBool || is_supported(dtype), mask.op, ": ", mask.name,
      " must be bool (True = may be seen) or a float mask that is added to the scores, got ",
      dtype_name(dtype), "; convert it with .bool(), or expand a 0/1 mask with expand_mask");
}

void broadcasts_to(const Argument& mask, const Sizes& sizes) {
  const c10::SymInt target[4] = {sizes.batch, sizes.heads, sizes.queries, sizes.keys};
  const c10::SymIntArrayRef shape = mask.tensor.sym_sizes();
  const int64_t rank = mask.tensor.dim();
  bool fits = rank <= 4;
  for (int64_t i = 0; fits && i < rank; ++i) {
    const c10::SymInt& size = shape[rank - 1 - i];
    fits = same_size(size, target[3 - i]) || same_size(size, 1);
  }
  TORCH_CHECK(
      fits, mask.op, ": ", mask.name,
      " must be broadcastable to [batch, heads, queries, keys] = ", c10::SymIntArrayRef(target, 4),
      ", got ", shape, "; a [batch, keys] mask goes to key_mask");
}

}  // namespace

bool is_supported(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf ||
         dtype == at::kBFloat16;
}

std::string dtype_name(at::ScalarType dtype) {
  return std::string(c10::getDtypeNames(dtype).first);
}

bool same_size(const c10::SymInt& a, const c10::SymInt& b) {
  return a.sym_eq(b).guard_bool(__FILE__, __LINE__);
}

void is_supported_float(const Argument& argument) {
  const at::ScalarType dtype = argument.tensor.scalar_type();
  TORCH_CHECK(is_supported(dtype), argument.op, ": ", argument.name,
              " must be float32, float64, float16 or bfloat16, got ", dtype_name(dtype));
}

void has_dtype_of(const Argument& argument, const Argument& other) {
  const at::ScalarType dtype = argument.tensor.scalar_type();
  const at::ScalarType wanted = other.tensor.scalar_type();
  TORCH_CHECK(dtype == wanted, argument.op, ": ", argument.name, " must have the dtype of ",
              other.name, ", ", dtype_name(wanted), ", got ", dtype_name(dtype));
}

void has_storage_dtype_for(const Argument& argument, const Argument& other) {
  const at::ScalarType dtype = argument.tensor.scalar_type();
  const at::ScalarType wanted = other.tensor.scalar_type();
  const bool smaller = wanted == at::kFloat && (dtype == at::kHalf || dtype == at::kBFloat16);
  TORCH_CHECK(dtype == wanted || smaller, argument.op, ": ", argument.name,
              " must have the dtype of ", other.name, ", ", dtype_name(wanted),
              wanted == at::kFloat ? ", or float16 or bfloat16" : "", ", got ", dtype_name(dtype));
}

void is_on_device_of(const Argument& argument, const Argument& other) {
  TORCH_CHECK(argument.tensor.device() == other.tensor.device(), argument.op, ": ", argument.name,
              " must be on the device of ", other.name, ", ", other.tensor.device(), ", got ",
              argument.tensor.device());
}

void has_rank(const Argument& argument, int64_t rank) {
  TORCH_CHECK(argument.tensor.dim() == rank, argument.op, ": ", argument.name, " must have ", rank,
              " dimensions, got ", argument.tensor.dim(), ": ", argument.tensor.sym_sizes());
}

void has_shape(const Argument& argument, const char* names, c10::SymIntArrayRef sizes) {
  const c10::SymIntArrayRef shape = argument.tensor.sym_sizes();
  bool fits = shape.size() == sizes.size();
  for (size_t i = 0; fits && i < sizes.size(); ++i) fits = same_size(shape[i], sizes[i]);
  TORCH_CHECK(fits, argument.op, ": ", argument.name, " must be ", names, " = ", sizes, ", got ",
              shape);
}

void masks_fit(const Argument& query, const OptionalTensor& key_mask,
               const OptionalTensor& attn_mask, std::optional<int64_t> window, const Sizes& sizes) {
  if (key_mask.has_value()) {
    const Argument mask{query.op, "key_mask", *key_mask};
    is_bool_key_mask(mask);
    is_on_device_of(mask, query);
    const bool fits = key_mask->dim() == 2 && same_size(key_mask->sym_size(0), sizes.batch) &&
                      same_size(key_mask->sym_size(1), sizes.keys);
    const c10::SymInt wanted[2] = {sizes.batch, sizes.keys};
    TORCH_CHECK(fits, query.op,
                ": key_mask must be [batch, keys] = ", c10::SymIntArrayRef(wanted, 2), ", got ",
                key_mask->sym_sizes(), "; a mask of (query, key) pairs goes to attn_mask");
  }
  if (attn_mask.has_value()) {
    const Argument mask{query.op, "attn_mask", *attn_mask};
    is_bool_or_float_mask(mask);
    is_on_device_of(mask, query);
    broadcasts_to(mask, sizes);
  }
  window_is_positive(query.op, window);
}

void window_is_positive(const char* op, std::optional<int64_t> window) {
  TORCH_CHECK(!window.has_value() || *window >= 1, op, ": window must be at least 1 key, got ",
              window.value_or(0));
}

void heads_are_grouped(const Argument& query, const Argument& key) {
  const c10::SymInt heads = query.tensor.sym_size(1);
  const c10::SymInt kv_heads = key.tensor.sym_size(1);
  const bool grouped =
      same_size(kv_heads, 0) ? same_size(heads, 0) : same_size(heads % kv_heads, 0);
  TORCH_CHECK(grouped, key.op, ": ", key.name, " has ", kv_heads,
              " heads, which must divide the heads of ", query.name, ", ", heads);
}

void scale_is_finite(const Argument& query, std::optional<double> scale) {
  const double value = scale.value_or(0.0);
  const bool wide = query.tensor.scalar_type() == at::kDouble;
  TORCH_CHECK(wide ? std::isfinite(value) : std::isfinite(static_cast<float>(value)), query.op,
              ": scale must be finite in ", wide ? "float64" : "float32", ", got ", value);
}

}  // namespace masked_attn::checks
