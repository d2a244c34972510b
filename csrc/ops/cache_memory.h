// What the memory of a cache must be, beyond dtypes and shapes: writable in place, and apart from
// everything that is read or written in the same call.
#pragma once

#include <ATen/ATen.h>

#include "attention_options.h"

namespace masked_attn {

// Every argument is on one device. `position` is undefined where the host knows it.
void check_cache_memory(const at::Tensor& query, const at::Tensor& new_key,
                        const at::Tensor& new_value, const at::Tensor& key_cache,
                        const at::Tensor& value_cache, const AttentionOptions& options,
                        const at::Tensor& position);

}  // namespace masked_attn
