#include "cache_memory.h"

#include "byte_layout.h"
#include "checks.h"

namespace masked_attn {
namespace {

constexpr char kOp[] = "cached_attention";

void check_cache(const checks::Argument& cache) {
  const at::Tensor& tensor = cache.tensor;
  TORCH_CHECK(!tensor.is_inference() || c10::InferenceMode::is_enabled(), kOp, ": ", cache.name,
              " was made in inference mode and can be written only there");
  TORCH_CHECK(tensor.size(-1) <= 1 || tensor.stride(-1) == 1, kOp, ": the last dimension of ",
              cache.name, " must be contiguous, got strides ", tensor.strides());
  TORCH_CHECK(!overlaps_itself(ByteLayout(tensor)), kOp, ": ", cache.name,
              " overlaps itself (it is an expanded or overlapping view) and can't be written, got "
              "sizes ",
              tensor.sizes(), " and strides ", tensor.strides());
  // A lazy clone gets memory of its own when it is written. That is now, so that what is compared
  // is what kernels see.
  tensor.mutable_data_ptr();
}

struct Placed {
  const char* name;
  ByteLayout layout;
};

void check_apart(const Placed& cache, const Placed& other) {
  TORCH_CHECK(!share_memory(cache.layout, other.layout), kOp, ": ", cache.name, " and ", other.name,
              " share memory; clone one of them");
}

}  // namespace

void check_cache_memory(const at::Tensor& query, const at::Tensor& new_key,
                        const at::Tensor& new_value, const at::Tensor& key_cache,
                        const at::Tensor& value_cache, const AttentionOptions& options,
                        const at::Tensor& position) {
  check_cache({kOp, "key_cache", key_cache});
  check_cache({kOp, "value_cache", value_cache});
  const Placed keys{"key_cache", ByteLayout(key_cache)};
  const Placed values{"value_cache", ByteLayout(value_cache)};
  check_apart(keys, values);
  const auto is_read = [&](const char* name, const at::Tensor& tensor) {
    const Placed other{name, ByteLayout(tensor)};
    check_apart(keys, other);
    check_apart(values, other);
  };
  is_read("query", query);
  is_read("new_key", new_key);
  is_read("new_value", new_value);
  if (options.key_mask.has_value()) is_read("key_mask", *options.key_mask);
  if (options.attn_mask.has_value()) is_read("attn_mask", *options.attn_mask);
  if (options.sinks.has_value()) is_read("sinks", *options.sinks);
  if (options.alibi_slopes.has_value()) is_read("alibi_slopes", *options.alibi_slopes);
  if (position.defined()) is_read("position", position);
}

}  // namespace masked_attn
