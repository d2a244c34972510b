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

double in_dtype_of_sums(const Argument& query, double value) {
  return dtype_of_sums(query.tensor) == at::kDouble ? value : static_cast<float>(value);
}

void softcap_is_positive(const Argument& query, std::optional<double> softcap) {
  if (!softcap.has_value()) return;
  const double value = in_dtype_of_sums(query, *softcap);
  TORCH_CHECK(std::isfinite(value) && value > 0, query.op,
              ": softcap must be finite and above 0 in ", dtype_name(dtype_of_sums(query.tensor)),
              ", got ", *softcap);
}

void sinks_fit(const Argument& query, const OptionalTensor& sinks, const Sizes& sizes) {
  if (!sinks.has_value()) return;
  const Argument argument{query.op, "sinks", *sinks};
  is_supported_float(argument);
  is_on_device_of(argument, query);
  has_shape(argument, "[heads]", {sizes.heads});
}

void slopes_fit(const Argument& query, const OptionalTensor& slopes, const Sizes& sizes,
                const char* batch_name) {
  if (!slopes.has_value()) return;
  const Argument argument{query.op, "alibi_slopes", *slopes};
  is_supported_float(argument);
  is_on_device_of(argument, query);
  const c10::SymInt wanted[2] = {sizes.batch, sizes.heads};
  const c10::SymIntArrayRef shape = slopes->sym_sizes();
  const bool of_heads = slopes->dim() == 1 && same_size(shape[0], sizes.heads);
  const bool of_rows =
      slopes->dim() == 2 && same_size(shape[0], sizes.batch) && same_size(shape[1], sizes.heads);
  TORCH_CHECK(of_heads || of_rows, query.op, ": alibi_slopes must be [heads] = [", sizes.heads,
              "] or [", batch_name, ", heads] = ", c10::SymIntArrayRef(wanted, 2), ", got ", shape);
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

bool at_most(const c10::SymInt& a, const c10::SymInt& b) {
  return a.sym_le(b).guard_bool(__FILE__, __LINE__);
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

at::ScalarType dtype_of_sums(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void scale_is_finite(const Argument& query, std::optional<double> scale) {
  const double value = scale.value_or(0.0);
  TORCH_CHECK(std::isfinite(in_dtype_of_sums(query, value)), query.op, ": scale must be finite in ",
              dtype_name(dtype_of_sums(query.tensor)), ", got ", value);
}

void options_fit(const Argument& query, const AttentionOptions& options, const Sizes& sizes,
                 const char* batch_name) {
  masks_fit(query, options.key_mask, options.attn_mask, options.window, sizes);
  scale_is_finite(query, options.scale);
  softcap_is_positive(query, options.softcap);
  sinks_fit(query, options.sinks, sizes);
  slopes_fit(query, options.alibi_slopes, sizes, batch_name);
}

void has_no_masks(const char* op, const AttentionOptions& options) {
  TORCH_CHECK(!options.key_mask.has_value() && !options.attn_mask.has_value(), op,
              ": there is no key_mask and no attn_mask");
}

void has_no_dropout(const char* op, const AttentionOptions& options) {
  TORCH_CHECK(options.dropout_p == 0.0, op,
              ": dropout is not supported, got dropout_p = ", options.dropout_p);
}

}  // namespace masked_attn::checks
