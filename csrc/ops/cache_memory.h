// What the memory of a cache must be, beyond dtypes and shapes: writable in place, and apart from
// everything that is read or written in the same call.
#pragma once

#include <ATen/ATen.h>

namespace masked_attn {

void check_cache_memory(const at::Tensor& query, const at::Tensor& new_key,
                        const at::Tensor& new_value, const at::Tensor& key_cache,
                        const at::Tensor& value_cache);

}  // namespace masked_attn
