#include "masked_attention.h"

#include <torch/library.h>

#include <cmath>

#include "checks.h"

namespace masked_attn {
namespace {

constexpr char kOp[] = "masked_attention";

void check_shapes(const checks::Argument& q, const checks::Argument& k, const checks::Argument& v) {
  const at::Tensor& query = q.tensor;
  const at::Tensor& key = k.tensor;
  checks::has_rank(q, 4);
  checks::has_rank(k, 4);
  checks::has_rank(v, 4);
  const c10::SymInt kv_heads = key.sym_size(1);
  checks::has_shape(k, "[batch, kv_heads, keys, head_dim]",
                    {query.sym_size(0), kv_heads, key.sym_size(2), query.sym_size(3)});
  checks::has_shape(v, "[batch, kv_heads, keys, value_dim]",
                    {query.sym_size(0), kv_heads, key.sym_size(2), v.tensor.sym_size(3)});
  checks::heads_are_grouped(q, k);
}

void check_dropout(double dropout_p) {
  TORCH_CHECK(dropout_p >= 0.0 && dropout_p < 1.0, kOp, ": dropout_p must be in [0, 1), got ",
              dropout_p);
  TORCH_CHECK(dropout_p == 0.0, kOp, ": dropout is not supported, got dropout_p = ", dropout_p);
}

}  // namespace

double attention_scale(std::optional<double> scale, int64_t head_dim) {
  if (scale.has_value()) return *scale;
  return head_dim > 0 ? 1.0 / std::sqrt(static_cast<double>(head_dim)) : 1.0;
}

at::Tensor empty_attention_output(const at::Tensor& query, const c10::SymInt& value_dim) {
  const c10::SymInt heads = query.sym_size(1);
  const c10::SymInt queries = query.sym_size(2);
  return at::empty_strided_symint({query.sym_size(0), heads, queries, value_dim},
                                  {queries * heads * value_dim, value_dim, heads * value_dim, 1},
                                  query.options().requires_grad(false));
}

at::Tensor masked_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                            const std::optional<at::Tensor>& key_mask,
                            const std::optional<at::Tensor>& attn_mask, bool causal,
                            std::optional<int64_t> window, std::optional<double> scale,
                            double dropout_p) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::masked_attention", "")
                             .typed<decltype(masked_attention_meta)>();
  return op.call(query, key, value, key_mask, attn_mask, causal, window, scale, dropout_p);
}

std::tuple<at::Tensor, at::Tensor> masked_attention_forward(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask, const std::optional<at::Tensor>& attn_mask,
    bool causal, std::optional<int64_t> window, std::optional<double> scale, double dropout_p) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::_masked_attention_forward", "")
                             .typed<decltype(masked_attention_forward_meta)>();
  return op.call(query, key, value, key_mask, attn_mask, causal, window, scale, dropout_p);
}

at::Tensor masked_attention_meta(const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask, bool /*causal*/,
                                 std::optional<int64_t> window, std::optional<double> scale,
                                 double dropout_p) {
  const checks::Argument q{kOp, "query", query};
  const checks::Argument k{kOp, "key", key};
  const checks::Argument v{kOp, "value", value};
  checks::is_supported_float(q);
  checks::has_storage_dtype_for(k, q);
  checks::has_dtype_of(v, k);
  checks::is_on_device_of(k, q);
  checks::is_on_device_of(v, q);
  check_shapes(q, k, v);
  checks::masks_fit(q, key_mask, attn_mask, window,
                    {query.sym_size(0), query.sym_size(1), query.sym_size(2), key.sym_size(2)});
  checks::scale_is_finite(q, scale);
  check_dropout(dropout_p);
  return empty_attention_output(query, value.sym_size(3));
}

std::tuple<at::Tensor, at::Tensor> masked_attention_forward_meta(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& key_mask, const std::optional<at::Tensor>& attn_mask,
    bool causal, std::optional<int64_t> window, std::optional<double> scale, double dropout_p) {
  at::Tensor out = masked_attention_meta(query, key, value, key_mask, attn_mask, causal, window,
                                         scale, dropout_p);
  const at::ScalarType dtype = query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor logsumexp = at::empty_symint({query.sym_size(0), query.sym_size(1), query.sym_size(2)},
                                          query.options().dtype(dtype).requires_grad(false));
  return {std::move(out), std::move(logsumexp)};
}

TORCH_LIBRARY_IMPL(masked_attn, Meta, m) {
  m.impl("masked_attention", masked_attention_meta);
  m.impl("_masked_attention_forward", masked_attention_forward_meta);
}

}  // namespace masked_attn
