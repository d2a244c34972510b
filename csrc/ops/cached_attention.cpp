#include "cached_attention.h"

#include <torch/library.h>

#include "checks.h"
#include "masked_attention.h"

namespace masked_attn {
namespace {

constexpr char kOp[] = "cached_attention";

struct Arguments {
  checks::Argument query;
  checks::Argument new_key;
  checks::Argument new_value;
  checks::Argument key_cache;
  checks::Argument value_cache;
};

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

at::Tensor check_masks(const Arguments& a, const c10::SymInt& keys,
                       const std::optional<at::Tensor>& key_mask,
                       const std::optional<at::Tensor>& attn_mask, std::optional<int64_t> window,
                       std::optional<double> scale) {
  const at::Tensor& query = a.query.tensor;
  checks::masks_fit(a.query, key_mask, attn_mask, window,
                    {query.sym_size(0), query.sym_size(1), query.sym_size(2), keys});
  checks::scale_is_finite(a.query, scale);
  return empty_attention_output(query, a.new_value.tensor.sym_size(3));
}

bool at_most(const c10::SymInt& a, const c10::SymInt& b) {
  return a.sym_le(b).guard_bool(__FILE__, __LINE__);
}

}  // namespace

at::Tensor cached_attention(const at::Tensor& query, const at::Tensor& new_key,
                            const at::Tensor& new_value, at::Tensor& key_cache,
                            at::Tensor& value_cache, c10::SymInt position,
                            const std::optional<at::Tensor>& key_mask,
                            const std::optional<at::Tensor>& attn_mask,
                            std::optional<int64_t> window, std::optional<double> scale) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::cached_attention", "")
                             .typed<decltype(cached_attention_meta)>();
  return op.call(query, new_key, new_value, key_cache, value_cache, std::move(position), key_mask,
                 attn_mask, window, scale);
}

at::Tensor cached_attention(const at::Tensor& query, const at::Tensor& new_key,
                            const at::Tensor& new_value, at::Tensor& key_cache,
                            at::Tensor& value_cache, const at::Tensor& position,
                            const std::optional<at::Tensor>& key_mask,
                            const std::optional<at::Tensor>& attn_mask,
                            std::optional<int64_t> window, std::optional<double> scale) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("masked_attn::cached_attention", "device")
                             .typed<decltype(cached_attention_device_meta)>();
  return op.call(query, new_key, new_value, key_cache, value_cache, position, key_mask, attn_mask,
                 window, scale);
}

at::Tensor cached_attention_meta(const at::Tensor& query, const at::Tensor& new_key,
                                 const at::Tensor& new_value, at::Tensor& key_cache,
                                 at::Tensor& value_cache, c10::SymInt position,
                                 const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask,
                                 std::optional<int64_t> window, std::optional<double> scale) {
  const Arguments a{{kOp, "query", query},
                    {kOp, "new_key", new_key},
                    {kOp, "new_value", new_value},
                    {kOp, "key_cache", key_cache},
                    {kOp, "value_cache", value_cache}};
  check_dtypes_and_devices(a);
  check_shapes(a);
  // Written so that no position overflows.
  const c10::SymInt room = key_cache.sym_size(2) - query.sym_size(2);
  TORCH_CHECK(at_most(0, position), kOp, ": position must not be negative, got ", position);
  TORCH_CHECK(at_most(0, room) && at_most(position, room), kOp, ": position = ", position, " and ",
              query.sym_size(2), " queries go past the capacity of the cache, ",
              key_cache.sym_size(2));
  return check_masks(a, position + query.sym_size(2), key_mask, attn_mask, window, scale);
}

at::Tensor cached_attention_device_meta(const at::Tensor& query, const at::Tensor& new_key,
                                        const at::Tensor& new_value, at::Tensor& key_cache,
                                        at::Tensor& value_cache, const at::Tensor& position,
                                        const std::optional<at::Tensor>& key_mask,
                                        const std::optional<at::Tensor>& attn_mask,
                                        std::optional<int64_t> window,
                                        std::optional<double> scale) {
  const Arguments a{{kOp, "query", query},
                    {kOp, "new_key", new_key},
                    {kOp, "new_value", new_value},
                    {kOp, "key_cache", key_cache},
                    {kOp, "value_cache", value_cache}};
  check_dtypes_and_devices(a);
  TORCH_CHECK(position.scalar_type() == at::kLong && position.dim() == 0, kOp,
              ": position must be an int64 scalar tensor, got ",
              checks::dtype_name(position.scalar_type()), " of ", position.sym_sizes());
  checks::is_on_device_of({kOp, "position", position}, a.query);
  check_shapes(a);
  const c10::SymInt capacity = key_cache.sym_size(2);
  TORCH_CHECK(at_most(query.sym_size(2), capacity), kOp, ": ", query.sym_size(2),
              " queries go past the capacity of the cache, ", capacity);
  return check_masks(a, capacity, key_mask, attn_mask, window, scale);
}

TORCH_LIBRARY_IMPL(masked_attn, Meta, m) {
  m.impl("cached_attention", cached_attention_meta);
  m.impl("cached_attention.device", cached_attention_device_meta);
}

}  // namespace masked_attn
