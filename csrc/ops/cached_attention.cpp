#include "cached_attention.h"

#include "checks.h"
#include "masked_attention.h"

namespace masked_attn {
namespace {

constexpr const char* kOp = CachedAttention<c10::SymInt>::kName;

struct Arguments {
  checks::Argument query;
  checks::Argument new_key;
  checks::Argument new_value;
  checks::Argument key_cache;
  checks::Argument value_cache;
};

template <class Position>
Arguments arguments_of(const CachedAttention<Position>& op) {
  return {{kOp, "query", op.query},
          {kOp, "new_key", op.new_key},
          {kOp, "new_value", op.new_value},
          {kOp, "key_cache", op.key_cache},
          {kOp, "value_cache", op.value_cache}};
}

void check_dtypes_and_devices(const Arguments& a) {
  checks::is_supported_float(a.query);
  checks::has_dtype_of(a.new_key, a.query);
  checks::has_dtype_of(a.new_value, a.query);
  checks::has_storage_dtype_for(a.key_cache, a.query);
  checks::has_dtype_of(a.value_cache, a.key_cache);
  checks::is_on_device_of(a.new_key, a.query);
  checks::is_on_device_of(a.new_value, a.query);
  checks::is_on_device_of(a.key_cache, a.query);
  checks::is_on_device_of(a.value_cache, a.query);
}

void check_shapes(const Arguments& a) {
  const at::Tensor& query = a.query.tensor;
  checks::has_rank(a.query, 4);
  checks::has_rank(a.new_key, 4);
  checks::has_rank(a.new_value, 4);
  checks::has_rank(a.key_cache, 4);
  checks::has_rank(a.value_cache, 4);
  const c10::SymInt batch = query.sym_size(0);
  const c10::SymInt queries = query.sym_size(2);
  const c10::SymInt kv_heads = a.new_value.tensor.sym_size(1);
  const c10::SymInt capacity = a.key_cache.tensor.sym_size(2);
  const c10::SymInt value_dim = a.new_value.tensor.sym_size(3);
  checks::has_shape(a.new_key, "[batch, kv_heads, queries, head_dim]",
                    {batch, kv_heads, queries, query.sym_size(3)});
  checks::has_shape(a.new_value, "[batch, kv_heads, queries, value_dim]",
                    {batch, kv_heads, queries, value_dim});
  checks::has_shape(a.key_cache, "[batch, kv_heads, capacity, head_dim]",
                    {batch, kv_heads, capacity, query.sym_size(3)});
  checks::has_shape(a.value_cache, "[batch, kv_heads, capacity, value_dim]",
                    {batch, kv_heads, capacity, value_dim});
  checks::heads_are_grouped(a.query, a.new_key);
}

at::Tensor checked_options(const Arguments& a, const AttentionOptions& options,
                           const c10::SymInt& keys) {
  const at::Tensor& query = a.query.tensor;
  checks::options_fit(a.query, options,
                      {query.sym_size(0), query.sym_size(1), query.sym_size(2), keys});
  return empty_attention_output(query, a.new_value.tensor.sym_size(3));
}

template <class Position>
at::Tensor call(const CachedAttention<Position>& op) {
  checks::has_no_dropout(kOp, op.options);
  return Entry<CachedAttention<Position>, at::Tensor>::call(op);
}

}  // namespace

at::Tensor cached_attention(const at::Tensor& query, const at::Tensor& new_key,
                            const at::Tensor& new_value, at::Tensor& key_cache,
                            at::Tensor& value_cache, c10::SymInt position,
                            const AttentionOptions& options) {
  return call<c10::SymInt>(
      {query, new_key, new_value, key_cache, value_cache, std::move(position), options});
}

at::Tensor cached_attention(const at::Tensor& query, const at::Tensor& new_key,
                            const at::Tensor& new_value, at::Tensor& key_cache,
                            at::Tensor& value_cache, const at::Tensor& position,
                            const AttentionOptions& options) {
  return call<const at::Tensor&>(
      {query, new_key, new_value, key_cache, value_cache, position, options});
}

at::Tensor checked_output(const CachedAttention<c10::SymInt>& op) {
  const Arguments a = arguments_of(op);
  check_dtypes_and_devices(a);
  check_shapes(a);
  // Written so that no position overflows.
  const c10::SymInt queries = op.query.sym_size(2);
  const c10::SymInt room = op.key_cache.sym_size(2) - queries;
  TORCH_CHECK(checks::at_most(0, op.position), kOp, ": position must not be negative, got ",
              op.position);
  TORCH_CHECK(checks::at_most(0, room) && checks::at_most(op.position, room), kOp,
              ": position = ", op.position, " and ", queries,
              " queries go past the capacity of the cache, ", op.key_cache.sym_size(2));
  return checked_options(a, op.options, op.position + queries);
}

at::Tensor checked_output(const CachedAttention<const at::Tensor&>& op) {
  const Arguments a = arguments_of(op);
  check_dtypes_and_devices(a);
  TORCH_CHECK(op.position.scalar_type() == at::kLong && op.position.dim() == 0, kOp,
              ": position must be an int64 scalar tensor, got ",
              checks::dtype_name(op.position.scalar_type()), " of ", op.position.sym_sizes());
  checks::is_on_device_of({kOp, "position", op.position}, a.query);
  check_shapes(a);
  const c10::SymInt capacity = op.key_cache.sym_size(2);
  TORCH_CHECK(checks::at_most(op.query.sym_size(2), capacity), kOp, ": ", op.query.sym_size(2),
              " queries go past the capacity of the cache, ", capacity);
  return checked_options(a, op.options, capacity);
}

}  // namespace masked_attn
