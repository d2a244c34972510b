#include "packed_attention.h"

#include "checks.h"

namespace masked_attn {
namespace {

constexpr const char* kOp = PackedAttention::kName;

void are_offsets(const checks::Argument& offsets) {
  const at::ScalarType dtype = offsets.tensor.scalar_type();
  TORCH_CHECK(dtype == at::kInt || dtype == at::kLong, kOp, ": ", offsets.name,
              " must be int32 or int64, got ", checks::dtype_name(dtype));
}

void check_dtypes_and_devices(const checks::Argument& q, const checks::Argument& k,
                              const checks::Argument& v, const at::Tensor& cu_seqlens,
                              const std::optional<at::Tensor>& cu_seqlens_k) {
  checks::is_supported_float(q);
  checks::has_storage_dtype_for(k, q);
  checks::has_dtype_of(v, k);
  are_offsets({kOp, "cu_seqlens", cu_seqlens});
  if (cu_seqlens_k.has_value()) are_offsets({kOp, "cu_seqlens_k", *cu_seqlens_k});
  checks::is_on_device_of(k, q);
  checks::is_on_device_of(v, q);
  checks::is_on_device_of({kOp, "cu_seqlens", cu_seqlens}, q);
  if (cu_seqlens_k.has_value()) checks::is_on_device_of({kOp, "cu_seqlens_k", *cu_seqlens_k}, q);
}

void check_shapes(const checks::Argument& q, const checks::Argument& k, const checks::Argument& v,
                  bool own_keys) {
  const at::Tensor& query = q.tensor;
  const at::Tensor& key = k.tensor;
  checks::has_rank(q, 3);
  checks::has_rank(k, 3);
  checks::has_rank(v, 3);
  const c10::SymInt kv_heads = key.sym_size(1);
  const c10::SymInt keys = key.sym_size(0);
  checks::has_shape(k, "[keys, kv_heads, head_dim]", {keys, kv_heads, query.sym_size(2)});
  checks::has_shape(v, "[keys, kv_heads, value_dim]", {keys, kv_heads, v.tensor.sym_size(2)});
  checks::heads_are_grouped(q, k);
  TORCH_CHECK(own_keys || checks::same_size(keys, query.sym_size(0)), kOp, ": key has ", keys,
              " tokens and query ", query.sym_size(0),
              "; sequences with other keys than queries need cu_seqlens_k and max_seqlen_k");
}

// The offsets and the longest length that belongs to them.
void check_lengths(const checks::Argument& offsets, const char* max_name, const c10::SymInt& max) {
  checks::has_rank(offsets, 1);
  TORCH_CHECK(checks::at_most(1, offsets.tensor.sym_size(0)), kOp, ": ", offsets.name,
              " must be [sequences + 1] and begin with 0, got ", offsets.tensor.sym_sizes());
  TORCH_CHECK(checks::at_most(0, max), kOp, ": ", max_name, " must not be negative, got ", max);
}

template <class Result>
Result call(const PackedAttention& op) {
  checks::has_no_masks(kOp, op.options);
  checks::has_no_dropout(kOp, op.options);
  return Entry<PackedAttention, Result>::call(op);
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                            const at::Tensor& cu_seqlens, c10::SymInt max_seqlen,
                            const AttentionOptions& options,
                            const std::optional<at::Tensor>& cu_seqlens_k,
                            std::optional<c10::SymInt> max_seqlen_k) {
  return call<at::Tensor>({query, key, value, cu_seqlens, std::move(max_seqlen), cu_seqlens_k,
                           std::move(max_seqlen_k), options});
}

OutAndLogsumexp packed_attention_forward(const at::Tensor& query, const at::Tensor& key,
                                         const at::Tensor& value, const at::Tensor& cu_seqlens,
                                         c10::SymInt max_seqlen, const AttentionOptions& options,
                                         const std::optional<at::Tensor>& cu_seqlens_k,
                                         std::optional<c10::SymInt> max_seqlen_k) {
  return call<OutAndLogsumexp>({query, key, value, cu_seqlens, std::move(max_seqlen), cu_seqlens_k,
                                std::move(max_seqlen_k), options});
}

at::Tensor checked_output(const PackedAttention& op) {
  const checks::Argument q{kOp, "query", op.query};
  const checks::Argument k{kOp, "key", op.key};
  const checks::Argument v{kOp, "value", op.value};
  check_dtypes_and_devices(q, k, v, op.cu_seqlens, op.cu_seqlens_k);
  const bool own_keys = op.cu_seqlens_k.has_value();
  TORCH_CHECK(own_keys == op.max_seqlen_k.has_value(), kOp,
              ": cu_seqlens_k and max_seqlen_k belong together, got only ",
              own_keys ? "cu_seqlens_k" : "max_seqlen_k");
  check_shapes(q, k, v, own_keys);
  check_lengths({kOp, "cu_seqlens", op.cu_seqlens}, "max_seqlen", op.max_seqlen);
  if (own_keys) {
    check_lengths({kOp, "cu_seqlens_k", *op.cu_seqlens_k}, "max_seqlen_k", *op.max_seqlen_k);
    checks::has_shape({kOp, "cu_seqlens_k", *op.cu_seqlens_k}, "[sequences + 1] as cu_seqlens",
                      op.cu_seqlens.sym_sizes());
  }
  const c10::SymInt heads = op.query.sym_size(1);
  checks::options_fit(
      q, op.options,
      {op.cu_seqlens.sym_size(0) - 1, heads, op.query.sym_size(0), op.key.sym_size(0)},
      "sequences");
  return at::empty_symint({op.query.sym_size(0), heads, op.value.sym_size(2)},
                          op.query.options().requires_grad(false));
}

at::Tensor empty_logsumexp(const PackedAttention& op) {
  const at::Tensor& query = op.query;
  return at::empty_symint({query.sym_size(1), query.sym_size(0)},
                          query.options().dtype(checks::dtype_of_sums(query)).requires_grad(false));
}

}  // namespace masked_attn
