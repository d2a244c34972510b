#include "masked_attention.h"

#include <cmath>

#include "checks.h"

namespace masked_attn {
namespace {

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

void check_dropout(const char* op, double dropout_p) {
  TORCH_CHECK(dropout_p >= 0.0 && dropout_p < 1.0, op, ": dropout_p must be in [0, 1), got ",
              dropout_p);
  TORCH_CHECK(dropout_p == 0.0, op, ": dropout is not supported, got dropout_p = ", dropout_p);
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
                            const AttentionOptions& options) {
  return Entry<MaskedAttention, at::Tensor>::call({query, key, value, options});
}

OutAndLogsumexp masked_attention_forward(const at::Tensor& query, const at::Tensor& key,
                                         const at::Tensor& value, const AttentionOptions& options) {
  return Entry<MaskedAttention, OutAndLogsumexp>::call({query, key, value, options});
}

at::Tensor checked_output(const MaskedAttention& op) {
  const checks::Argument q{op.kName, "query", op.query};
  const checks::Argument k{op.kName, "key", op.key};
  const checks::Argument v{op.kName, "value", op.value};
  checks::is_supported_float(q);
  checks::has_storage_dtype_for(k, q);
  checks::has_dtype_of(v, k);
  checks::is_on_device_of(k, q);
  checks::is_on_device_of(v, q);
  check_shapes(q, k, v);
  const at::Tensor& query = op.query;
  checks::options_fit(
      q, op.options, {query.sym_size(0), query.sym_size(1), query.sym_size(2), op.key.sym_size(2)});
  check_dropout(op.kName, op.options.dropout_p);
  return empty_attention_output(query, op.value.sym_size(3));
}

at::Tensor empty_logsumexp(const MaskedAttention& op) {
  const at::Tensor& query = op.query;
  return at::empty_symint({query.sym_size(0), query.sym_size(1), query.sym_size(2)},
                          query.options().dtype(checks::dtype_of_sums(query)).requires_grad(false));
}

}  // namespace masked_attn
